r"""ImageNet-V2, -A, -R and -Sketch: entries for `config.evaluators`, off until they get a split.

    --config.evaluators.v2.split=test --config.evaluators.a.split=test \
      --config.evaluators.r.split=test --config.evaluators.sketch.split=test

In TFDS all four have ImageNet's 1,000 labels. On ImageNet-A and -R, with 200 classes each, the
model chooses only among those.
"""

from ml_collections import ConfigDict

from configs import common

# {evaluator: (dataset, type)}. They have 10,000, 7,500, 30,000 and 50,889 images.
_SETS = {
    "v2": ("imagenet_v2/matched-frequency", "classification"),
    "a": ("imagenet_a", "imagenet_a"),
    "r": ("imagenet_r", "imagenet_r"),
    "sketch": ("imagenet_sketch", "classification"),
}


def evaluators(config: ConfigDict, transform: str, every: str) -> dict[str, ConfigDict]:
    """The entries v2, a, r and sketch."""
    found = {}
    for name, (dataset, kind) in _SETS.items():
        found[name] = common.evaluator(config, "", transform, every, kind)
        found[name].dataset = dataset
    return found

r"""ImageNet's other test sets: entries for `config.evaluators`, off until they get a split.

    --config.evaluators.v2.split=test --config.evaluators.a.split=test \
      --config.evaluators.r.split=test --config.evaluators.sketch.split=test

TFDS gives all four ImageNet's 1,000 labels. Of the classes of ImageNet-A and -R, 200 each, the
model chooses among those alone.
"""

from ml_collections import ConfigDict

from configs import common

# By the evaluator's name: dataset, type. They have 10,000, 7,500, 30,000 and 50,889 images.
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

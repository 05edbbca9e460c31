"""ImageNet classifiers on ImageNet's other test sets: entries for `config.evaluators`.

All four are TFDS datasets with ImageNet's 1,000 label names; of the classes of -A and -R, 200 each,
the model chooses among those alone.
"""

from ml_collections import ConfigDict

from configs import common

# By the evaluator's name: dataset, type.
_SETS = {
    "v2": ("imagenet_v2/matched-frequency", "classification"),
    "a": ("imagenet_a", "imagenet_a"),
    "r": ("imagenet_r", "imagenet_r"),
    "sketch": ("imagenet_sketch", "classification"),
}


def evaluators(config: ConfigDict, transform: str, every: str) -> dict[str, ConfigDict]:
    """The four entries by name: v2 (10,000 images), a (7,500), r (30,000), sketch (50,889)."""
    found = {}
    for name, (dataset, kind) in _SETS.items():
        found[name] = common.evaluator(config, "test", transform, every, kind)
        found[name].dataset = dataset
    return found

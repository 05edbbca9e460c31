"""The 19 tasks of VTAB-1k (Zhai et al. 2019, arXiv 1910.04867), fine-tuned as for MLP-Mixer.

Splits and labels are those of google-research/task_adaptation. The examples in a split depend on
the order in which TFDS stores the dataset, so a dataset of another size is another task. Crop and
flip follow BiT's exceptions (arXiv 1912.11370, appendix F), the resolution its HyperRule with the
paper's 224 and 448.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np

from mixer import errors
from mixer.data.sources import vtab_labels
from mixer.data.sources.vtab_labels import Derived, Record, Stored
from mixer.data.transforms import before_crop

# Images with at least this many pixels per side are fine-tuned at the larger resolution.
_SIDE = 96


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
      group: natural, specialized or structured.
      builder: the TFDS dataset, with its version.
      sizes: {split: number of examples} for the splits that are used.
      val200, test: parts of these splits, in TFDS's notation.
      num_classes: number of classes.
      rule: record -> label, and the class names.
      image: record -> file or uint8 [H, W, 3].
      side: of small square images, in pixels; infinite for all larger images.
      crop, flip: whether training may crop and flip.
      protocol_version: the dataset's version in task_adaptation, if different.
    """

    group: str
    builder: str
    sizes: dict[str, int]
    val200: str
    test: str
    num_classes: int
    rule: Stored | Derived = Stored()  # noqa: RUF009 frozen
    image: Callable[[Record], bytes | np.ndarray] = vtab_labels.as_stored
    side: float = math.inf
    crop: bool = True
    flip: bool = True
    protocol_version: str = ""

    @property
    def splits(self) -> dict[str, str]:
        """{protocol's name: TFDS's notation} for train800, val200, train1000 (both), test."""
        train800 = "train[:800]"
        return {
            "train800": train800,
            "val200": self.val200,
            "train1000": f"{train800}+{self.val200}",
            "test": self.test,
        }

    def resolution(self, *, with_96: bool = False) -> int:
        """224 for images of less than 96 x 96 pixels, or, `with_96`, of exactly 96 x 96; else 448.

        BiT's rule says "below", which makes the three tasks with 96 x 96 pixels large, but its
        authors list them as small.
        """
        return 224 if self.side < _SIDE or (with_96 and self.side == _SIDE) else 448

    def train_transform(self, resolution: int) -> str:
        """Resizes to a square of 8/7 of the side, crops and flips, unless the task forbids it."""
        crop = f"resize({before_crop(resolution)})|random_crop" if self.crop else "resize"
        return f"{crop}|flip_lr" if self.flip else crop


# Directly to the square, as BiT does; the paper does not say.
TEST_TRANSFORM = "resize"

_natural, _specialized, _structured = (
    functools.partial(Task, group) for group in ("natural", "specialized", "structured")
)
_CLEVR = {
    "builder": "clevr:3.1.0",
    "sizes": {"train": 70_000, "validation": 15_000},
    "val200": "train[63000:63200]",
    "test": "validation",  # the official test split has no annotations
    "crop": False,
}
_DSPRITES = {
    "builder": "dsprites:2.0.0",
    "sizes": {"train": 737_280},
    "val200": "train[589824:590024]",
    "test": "train[663552:]",
    "num_classes": 16,
    "image": vtab_labels.times_255,
    "side": 64,
    "flip": False,
}
_SMALLNORB = {
    "builder": "smallnorb:2.0.0",
    "sizes": {"train": 24_300, "test": 24_300},
    "val200": "test[:200]",
    "test": "test[50%:]",
    "side": 96,
}

TASKS: dict[str, Task] = {
    "caltech101": _natural(
        "caltech101:3.0.2", {"train": 3_060, "test": 6_084}, "train[2754:2954]", "test", 102
    ),
    "cifar100": _natural(
        "cifar100:3.0.2",
        {"train": 50_000, "test": 10_000},
        "train[45000:45200]",
        "test",
        100,
        side=32,
    ),
    "dtd": _natural(
        "dtd:3.0.1",
        {"train": 1_880, "validation": 1_880, "test": 1_880},
        "validation[:200]",
        "test",
        47,
    ),
    "flowers102": _natural(
        "oxford_flowers102:2.1.1",
        {"train": 1_020, "validation": 1_020, "test": 6_149},
        "validation[:200]",
        "test",
        102,
    ),
    "pets": _natural(
        "oxford_iiit_pet:4.0.0",
        {"train": 3_680, "test": 3_669},
        "train[2944:3144]",
        "test",
        37,
        protocol_version="3",
    ),
    "sun397": _natural(
        "sun397/tfds:4.0.0",
        {"train": 76_128, "validation": 10_875, "test": 21_750},
        "validation[:200]",
        "test",
        397,
    ),
    "svhn": _natural(
        "svhn_cropped:3.1.0",
        {"train": 73_257, "test": 26_032},
        "train[65931:66131]",
        "test",
        10,
        side=32,
    ),
    "patch_camelyon": _specialized(
        "patch_camelyon:2.0.0",
        {"train": 262_144, "validation": 32_768, "test": 32_768},
        "validation[:200]",
        "test",
        2,
        side=96,
    ),
    "eurosat": _specialized(
        "eurosat/rgb:2.0.0", {"train": 27_000}, "train[16200:16400]", "train[21600:]", 10, side=64
    ),
    "resisc45": _specialized(
        "resisc45:3.0.0", {"train": 31_500}, "train[18900:19100]", "train[25200:]", 45
    ),
    "diabetic_retinopathy": _specialized(
        "diabetic_retinopathy_detection/btgraham-300:3.0.0",
        {"train": 35_126, "validation": 10_906, "test": 42_670},
        "validation[:200]",
        "test",
        5,
    ),
    "clevr_count": _structured(num_classes=8, rule=vtab_labels.CLEVR_COUNT, **_CLEVR),
    "clevr_distance": _structured(num_classes=6, rule=vtab_labels.CLEVR_DISTANCE, **_CLEVR),
    "dmlab": _structured(
        "dmlab:2.0.1",
        {"train": 65_550, "validation": 22_628, "test": 22_735},
        "validation[:200]",
        "test",
        6,
        crop=False,
    ),
    "kitti_distance": _structured(
        "kitti:3.3.0",
        {"train": 6_347, "validation": 423, "test": 711},  # from TFDS's catalog; 7,481 in total
        "validation[:200]",
        "test",
        4,
        rule=vtab_labels.KITTI_DISTANCE,
        crop=False,
        protocol_version="3.1.0",
    ),
    "dsprites_location": _structured(rule=vtab_labels.DSPRITES_LOCATION, crop=False, **_DSPRITES),
    "dsprites_orientation": _structured(rule=vtab_labels.DSPRITES_ORIENTATION, **_DSPRITES),
    "smallnorb_azimuth": _structured(
        num_classes=18, rule=Stored("label_azimuth"), flip=False, **_SMALLNORB
    ),
    "smallnorb_elevation": _structured(num_classes=9, rule=Stored("label_elevation"), **_SMALLNORB),
}


def task(name: str) -> Task:
    """One of `TASKS`.

    Raises:
      BadInput: there is no task of this name.
    """
    if name not in TASKS:
        raise errors.unknown("VTAB-1k task", name, TASKS)
    return TASKS[name]


def means(accuracies: Mapping[str, float]) -> dict[str, float | None]:
    """The score {"mean", "natural", "specialized", "structured"}: unweighted means over tasks.

    Args:
      accuracies: {task: accuracy} for all or some tasks; a mean with a task missing is None.
    """
    found = {name: accuracies.get(name) for name in TASKS}
    if strange := set(accuracies) - set(found):
        raise errors.unknown("VTAB-1k task", min(strange), TASKS)

    def mean(group: str) -> float | None:
        values = [found[n] for n, t in TASKS.items() if group in ("mean", t.group)]
        return None if None in values else sum(values) / len(values)

    return {group: mean(group) for group in ("mean", "natural", "specialized", "structured")}

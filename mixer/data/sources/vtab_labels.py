"""Labels and images of VTAB-1k's tasks, computed from raw TFDS records.

Definitions: google-research/task_adaptation, data/{clevr,kitti,dsprites}.py.
"""

import bisect
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from mixer.data.decode import decode

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Stored:
    """The label is a `ClassLabel` of the record."""

    feature: str = "label"

    def names(self, features: tfds.features.FeaturesDict) -> tuple[str, ...]:
        """The classes."""
        return tuple(features[self.feature].names)

    def __call__(self, record: Record) -> int:
        return int(record[self.feature])


@dataclasses.dataclass(frozen=True)
class Derived:
    """The label is a function of the record; not a valid class if the record is out of range."""

    function: Callable[[Record], int]
    classes: tuple[str, ...]

    def names(self, features: tfds.features.FeaturesDict) -> tuple[str, ...]:
        """The classes."""
        return self.classes

    def __call__(self, record: Record) -> int:
        return self.function(record)


def bin_of(value: float, thresholds: Sequence[float]) -> int:
    """The index of the last threshold below `value`; -1 if there is none.

    A value that equals a threshold belongs to the bin below it.
    """
    return bisect.bisect_left(thresholds, value) - 1


def _clevr_count(record: Record) -> int:
    return len(record["objects"]["pixel_coords"]) - 3


def _clevr_distance(record: Record) -> int:
    depths = [coordinates[2] for coordinates in record["objects"]["pixel_coords"]]
    return bin_of(min(depths, default=0.0), (0.0, 8.0, 8.5, 9.0, 9.5, 10.0))


_VEHICLES = (0, 1, 2)  # car, van, truck
_NO_VEHICLE = 1000.0  # metres


def _kitti_distance(record: Record) -> int:
    objects = record["objects"]
    pairs = zip(objects["type"], objects["location"], strict=True)
    metres = [location[2] for kind, location in pairs if kind in _VEHICLES]
    return bin_of(min(metres, default=_NO_VEHICLE), (-100.0, 8.0, 20.0, 999.0))


def _dsprites_location(record: Record) -> int:
    return record["label_x_position"] // 2


def _dsprites_orientation(record: Record) -> int:
    return 2 * record["label_orientation"] // 5  # 40 orientations in 16 classes of 2.5


def _ranges(numbers: int, function: Callable[[int], int]) -> tuple[str, ...]:
    """Class names such as "3-4" for the numbers that `function` maps to one class."""
    members: dict[int, list[int]] = {}
    for number in range(numbers):
        members.setdefault(function(number), []).append(number)
    return tuple(f"{several[0]}-{several[-1]}" for several in members.values())


CLEVR_COUNT = Derived(_clevr_count, tuple(str(objects) for objects in range(3, 11)))
CLEVR_DISTANCE = Derived(
    _clevr_distance,
    ("up to 8", "up to 8.5", "up to 9", "up to 9.5", "up to 10", "above 10"),
)
KITTI_DISTANCE = Derived(_kitti_distance, ("up to 8 m", "up to 20 m", "farther", "no vehicle"))
DSPRITES_LOCATION = Derived(
    _dsprites_location, _ranges(32, lambda x: _dsprites_location({"label_x_position": x}))
)
DSPRITES_ORIENTATION = Derived(
    _dsprites_orientation, _ranges(40, lambda o: _dsprites_orientation({"label_orientation": o}))
)


def as_stored(record: Record) -> bytes:
    """The image file. Decoding converts CLEVR's four channels and SmallNORB's one to three."""
    return record["image"]


def times_255(record: Record) -> np.ndarray:
    """Converts dSprites' zeros and ones to black and white, uint8 [64, 64, 3].

    Raises:
      ValueError: other values.
    """
    pixels = decode(record["image"])
    if pixels.max() > 1:
        raise ValueError(f"it has values up to {pixels.max()}: expected 0 and 1")
    return pixels * np.uint8(255)

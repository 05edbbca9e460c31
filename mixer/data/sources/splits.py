"""Splits: how their names are spelled, and TFDS's notation for parts of them."""

import re
from collections.abc import Iterable, Sequence

import tensorflow_datasets as tfds

from mixer import errors

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# The one list of names by which a split is known, in any case.
_SPELLINGS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "val", "valid", "dev"),
    TEST: ("test", "testing", "eval", "evaluation"),
}
_MEANING = {spelling: name for name, several in _SPELLINGS.items() for spelling in several}


def meaning(name: str) -> str | None:
    """train, validation or test, for a usual spelling of it in any case; None for other names."""
    return _MEANING.get(name.lower())


def resembles(name: str) -> str | None:
    """The split of which a usual spelling is a word of the name, as in train2017 or seg_test."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return next(filter(None, map(meaning, words)), None)


def mistaken(classes: Sequence[str]) -> list[str]:
    """Those of the supposed classes that are rather splits, because of how they are called."""
    alike = {name: resembles(name) for name in classes}
    alike = {name: split for name, split in alike.items() if split}
    called = {meaning(name) for name in alike} - {None}
    # One class among others may well be the train that runs on rails.
    several = len(set(alike.values())) > 1 or len(alike) == len(classes)
    return list(alike) if several or called - {TRAIN} else []


def parts(split: str) -> list[str]:
    """The names of the splits in TFDS's notation: "train[:90%]+test" -> ["train", "test"]."""
    return [part.partition("[")[0].strip() for part in split.split("+")]


def as_spelled(split: str, names: Iterable[str]) -> str:
    """The split with each name as it is among `names`: "val[:9]" is "valid[:9]" if that is there.

    A name that is there, or that nothing there means, stays as it is.
    """
    names = list(names)

    def spelled(part: str) -> str:
        name, bracket, rest = part.partition("[")
        name = name.strip()
        same = [n for n in names if meaning(n) is not None and meaning(n) == meaning(name)]
        return (same[0] if name not in names and len(same) == 1 else name) + bracket + rest

    return "+".join(map(spelled, split.split("+")))


def absolute_ranges(dataset: str, split: str, sizes: dict[str, int]) -> list[tuple[str, slice]]:
    """TFDS's split notation -> [(split's name, slice)].

    Raises:
      BadInput: a split that is not there, or that cannot be read.
    """
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
        for name, size in sizes.items()
    }
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise errors.BadInput(
            f"split {split!r} of {dataset}: {first} It has {listed(sizes)}"
        ) from None
    return [(i.splitname, slice(i.from_, i.to)) for i in instructions]


def listed(sizes: dict[str, int]) -> str:
    """For messages: "test (360), train (1,437)"."""
    return ", ".join(f"{name} ({size:,})" for name, size in sorted(sizes.items()))

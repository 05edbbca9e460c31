"""Spellings of split names, and TFDS's notation for parts of splits."""

import re
from collections.abc import Iterable, Sequence

import tensorflow_datasets as tfds

from mixer import errors

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# The only list of names by which a split is known; case does not matter.
_SPELLINGS = {
    TRAIN: ("train", "training"),
    VALIDATION: ("validation", "val", "valid", "dev"),
    TEST: ("test", "testing", "eval", "evaluation"),
}
_MEANING = {spelling: name for name, several in _SPELLINGS.items() for spelling in several}


def meaning(name: str) -> str | None:
    """train, validation or test for a usual spelling of it, ignoring case; None for other names."""
    return _MEANING.get(name.lower())


def resembles(name: str) -> str | None:
    """The split whose usual spelling is a word of the name, as in train2017 or seg_test."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)
    return next(filter(None, map(meaning, words)), None)


def mistaken(classes: Sequence[str]) -> list[str]:
    """The supposed classes that are probably splits, judging by their names."""
    alike = {name: resembles(name) for name in classes}
    alike = {name: split for name, split in alike.items() if split}
    called = {meaning(name) for name in alike} - {None}
    # A single class `train` among others may be the vehicle.
    several = len(set(alike.values())) > 1 or len(alike) == len(classes)
    return list(alike) if several or called - {TRAIN} else []


def parts(split: str) -> list[str]:
    """The names of the splits in TFDS's notation: "train[:90%]+test" -> ["train", "test"]."""
    return [part.partition("[")[0].strip() for part in split.split("+")]


def as_spelled(split: str, names: Iterable[str]) -> str:
    """Spells each name in a split as in `names`: "val[:9]" becomes "valid[:9]" if that exists.

    A name that exists, or that has no equivalent in `names`, does not change.
    """
    names = list(names)

    def spelled(part: str) -> str:
        name, bracket, rest = part.partition("[")
        name = name.strip()
        same = [n for n in names if meaning(n) is not None and meaning(n) == meaning(name)]
        return (same[0] if name not in names and len(same) == 1 else name) + bracket + rest

    return "+".join(map(spelled, split.split("+")))


def absolute_ranges(dataset: str, split: str, sizes: dict[str, int]) -> list[tuple[str, slice]]:
    """Parses TFDS's split notation to [(split's name, slice)].

    Raises:
      BadInput: an unknown split or a malformed notation.
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
            f"split {split!r} of {dataset}: {first} It has {listed(sizes)}{_held_out(split, sizes)}"
        ) from None
    return [(i.splitname, slice(i.from_, i.to)) for i in instructions]


def _held_out(split: str, sizes: dict[str, int]) -> str:
    """How to measure on a data set whose only split is for training."""
    only = next(iter(sizes), "")
    if len(sizes) != 1 or meaning(only) != TRAIN or only in parts(split):
        return ""
    return (
        f". To hold a tenth of it out, measure on {only}[90%:] (config.evaluators.NAME.split) and "
        f"train on {only}[:90%] (config.input.split)"
    )


def listed(sizes: dict[str, int]) -> str:
    """Formats sizes for messages: "test (360), train (1,437)"."""
    return ", ".join(f"{name} ({size:,})" for name, size in sorted(sizes.items()))

"""Names to read for ImageNet's classes: "golden retriever" for n02099601, from imagenet/*.txt."""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_SYNSET = re.compile(r"n\d{8}")
_FOLDER = Path(__file__).with_name("imagenet")


def readable(classes: Sequence[str], dataset: str = "") -> tuple[str, ...]:
    """The names to show for classes; a class that is no class of ImageNet keeps its own.

    A synset (n02099601) becomes its first lemma; where several of the classes share one, the synset
    follows it: "crane (n02012849)".

    Args:
      classes: a model's, such as `card.classes`.
      dataset: of these classes. For imagenet21k and imagenet21k_p, whose published heads only
        number the classes, the numbers are taken for the labels.
    """
    if dataset in ("imagenet21k", "imagenet21k_p"):
        ordered = synsets(dataset)
        if tuple(classes) == tuple(map(str, range(len(ordered)))):
            classes = ordered
    if not any(map(_SYNSET.fullmatch, classes)):
        return tuple(classes)
    known = _lines("imagenet21k") | _lines("imagenet2012")
    first = {name: known[name].partition(", ")[0] for name in classes if name in known}
    times = Counter(first.values())
    return tuple(
        name if name not in first else first[name] + f" ({name})" * (times[first[name]] > 1)
        for name in classes
    )


def synsets(dataset: str) -> tuple[str, ...]:
    """The classes of imagenet2012, imagenet21k or imagenet21k_p in label order."""
    return tuple(_lines(dataset))


@functools.cache
def _lines(name: str) -> dict[str, str]:
    """{synset: lemmas} of a file, in label order."""
    lines = (_FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return {synset: lemmas for synset, _, lemmas in (line.partition(" ") for line in lines)}

"""Finds training images that duplicate test images, by file bytes or by pixels."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from mixer import errors
from mixer.data import sources
from mixer.data.decode import Decoding, decode


def open_sets(datasets: str, data_dir: Path | None) -> list[sources.Source]:
    """Opens the splits of a list such as "imagenet2012:validation,cifar10:test,folder:PATH:test".

    Raises:
      BadInput: a split is missing, or a dataset cannot be opened.
    """
    opened = []
    for part in filter(None, (part.strip() for part in datasets.split(","))):
        named = re.fullmatch(r"(.+):(\w+(?:\[[^]]*\])?)", part)
        if not named:
            raise errors.BadInput(
                f"config.prepare.dedup_against: {part!r} names no split: expected DATASET:SPLIT, "
                f"such as cifar10:test"
            )
        opened.append(sources.open_source(*named.groups(), data_dir))
    return opened


def write(sets: list[sources.Source], file: Path, progress: Callable[[int, int], None]) -> None:
    """Writes a line with both hashes for each example of the test sets.

    Args:
      progress: called with the number of images and bytes just done.
    """
    with file.open("w") as lines, ThreadPoolExecutor(os.cpu_count()) as pool:
        for source in sets:

            def line(i, source=source):
                image = source[i]["image"]
                return [*hashes(image), f"{source.where(i)}"]

            for found in pool.map(line, range(len(source))):
                lines.write(json.dumps(found) + "\n")
                progress(1, 0)


def hashes(image: bytes | np.ndarray) -> tuple[str, str]:
    """Hashes of the file's bytes ("" for an array) and of the decoded pixels.

    Raises:
      ValueError: the image cannot be decoded.
    """
    exact = "" if isinstance(image, np.ndarray) else _digest(image)
    # Tolerant, as TensorFlow is: a TFDS dataset may have damaged JPEGs, which still count.
    stored = Decoding(as_tensorflow=True)
    pixels = image if isinstance(image, np.ndarray) else decode(image, stored)
    return exact, _digest(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class Known:
    """The examples of the test sets by their hashes."""

    def __init__(self, file: Path):
        self._bytes, self._pixels = {}, {}
        for exact, pixels, where in _lines(file):
            self._bytes[exact] = self._pixels[pixels] = where

    def __bool__(self) -> bool:
        return bool(self._pixels)

    def match(self, image: bytes) -> dict[str, str] | None:
        """Which test example the image equals, and by what ("bytes" or "pixels"); None if none.

        Raises:
          ValueError: the image cannot be decoded.
        """
        if where := self._bytes.get(_digest(image)):
            return {"equals": where, "by": "bytes"}
        if where := self._pixels.get(hashes(image)[1]):
            return {"equals": where, "by": "pixels"}
        return None


def _lines(file: Path) -> Iterator[list[str]]:
    with file.open() as lines:
        yield from map(json.loads, lines)

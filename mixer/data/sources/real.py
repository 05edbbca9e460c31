"""ImageNet's validation images with the ReaL labels (Beyer et al. 2020, arXiv 2006.07159)."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixer import errors, storage
from mixer.data.sources.tfds import TfdsSource

_URL = "https://raw.githubusercontent.com/google-research/reassessed-imagenet/master/real.json"
_FILE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
_IMAGES = 50_000


@dataclasses.dataclass(frozen=True)
class RealSource:
    """A split of imagenet2012 with the labels replaced by ReaL's, from human raters.

    3,163 of the 50,000 images have none; the evaluator `multilabel` measures accuracy on the
    others.

    Attributes:
      images: the source of the images; their file names determine their labels.
      labels: entry i belongs to ILSVRC2012_val_%08d.JPEG with number i + 1.
    """

    name: str
    images: TfdsSource
    labels: Sequence[Sequence[int]]

    @classmethod
    def open(cls, path: str, split: str, data_dir: Path | str) -> "RealSource":
        """Joins imagenet2012 with the file `path`, by default real.json in the data_dir.

        Raises:
          BadInput: one of them is missing or malformed, or the split has other files.
        """
        images = TfdsSource.open("imagenet2012", split, data_dir)
        file = path or f"{str(data_dir).rstrip('/')}/real.json"
        source = cls(f"real:{file}", images, _read(file, len(images.classes)))
        try:
            source[0]
        except errors.Failure as error:
            raise errors.BadInput(f"{source.where(0)}: {error}: use split validation") from None
        return source

    @property
    def split(self) -> str:
        """The split of the images."""
        return self.images.split

    @property
    def classes(self) -> Sequence[str]:
        """ImageNet's."""
        return self.images.classes

    @property
    def max_labels(self) -> int:
        """The most labels of any image; 9 in the published file."""
        return max(map(len, self.labels))

    @property
    def published(self) -> bool:
        """Whether the images are those of TFDS's own dataset."""
        return self.images.published

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.images.records[index]
        file = record["file_name"].decode()
        match = _FILE.fullmatch(file)
        if match is None or not 1 <= int(match[1]) <= _IMAGES:
            # Not a ValueError: the example is not bad, so it must not be skipped.
            raise errors.Failure(f"ReaL has no labels for file {file!r}")
        return {"image": record["image"], "label": self.labels[int(match[1]) - 1]}

    def where(self, index: int) -> str:
        return self.images.where(index)


def _read(file: str, num_classes: int) -> list[list[int]]:
    try:
        content = storage.read(file)
    except (OSError, storage.StoreError) as error:
        raise errors.Missing(f"{file} cannot be read: {error}. Put it there once: {_URL}") from None
    try:
        labels = json.loads(content)
    except ValueError as error:
        raise errors.BadInput(f"{file} is not JSON: {error}") from None
    well_formed = isinstance(labels, list) and all(
        isinstance(several, list) and all(type(k) is int and 0 <= k < num_classes for k in several)
        for several in labels
    )
    if not well_formed or len(labels) != _IMAGES or not any(labels):
        raise errors.BadInput(
            f"{file}: expected {_IMAGES:,} lists of class numbers from 0 to {num_classes - 1}, one "
            f"for each validation image, as in {_URL}"
        )
    return labels

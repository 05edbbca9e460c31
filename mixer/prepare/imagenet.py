"""Reader for `imagenet:PATH`: ILSVRC2012 as downloaded, to become TFDS's own imagenet2012."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from mixer import errors
from mixer.data.sources import image_files, tar_members
from mixer.data.sources.entry import Entry
from mixer.prepare.entry import Reader

_EXPECTED = {"train": 1_281_167, "validation": 50_000}
_TRAIN, _VALIDATION = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
_LABELS = "validation_labels.txt"


class ImageNetReader(Reader):
    """PATH contains the two tars, or their content: train/<wnid>/*.JPEG and val/**/*.JPEG.

    The training tar contains one tar per class. The labels of the validation images, in the order
    of their file names, come from TFDS, or from PATH/validation_labels.txt with one wnid per line.
    The key is the file name, such as n01440764_10026.JPEG.
    """

    dataset, expected = "imagenet2012", _EXPECTED
    encoding = "jpeg"  # as in TFDS's feature, although one image is a PNG

    def __init__(self, path: str):
        super().__init__()
        self._root = Path(path).expanduser().absolute()
        places = [self._root / _TRAIN, self._root / _VALIDATION]
        if not any(place.exists() for place in places):
            places = [self._root / "train", self._root / "val"]
        if not all(place.exists() for place in places):
            raise errors.BadInput(
                f"imagenet:{path}: expected {_TRAIN} and {_VALIDATION} in {self._root}, as "
                f"downloaded from image-net.org, or the folders train and val"
            )
        self._train, self._validation = places
        shipped = tfds.core.tfds_path("datasets/imagenet2012")
        self.classes = tuple((shipped / "labels.txt").read_text().split())
        own = self._root / _LABELS
        self._labels_file = own if own.is_file() else shipped / _LABELS

    def files(self) -> Iterator[Path]:
        """The tars, or every image; and the validation labels."""
        for place in (self._train, self._validation):
            found = [place] if place.is_file() else image_files.below(place, Counter())
            yield from map(Path, found)
        yield Path(self._labels_file)

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """Every image.

        Raises:
          BadInput: a class is not one of the 1,000, or labels and validation images do not match.
        """
        known = set(self.classes)
        for name, *place in _images(self._train, self.left_out):
            *_, wnid, file = name.split("/")
            if wnid not in known:
                raise errors.BadInput(
                    f"{self._train}: {wnid!r} is not one of ImageNet's 1,000 classes"
                )
            yield Entry(file, "train", wnid, *place)
        found = _images(self._validation, self.left_out)
        found = sorted((name.rpartition("/")[2], *place) for name, *place in found)
        labels = Path(self._labels_file).read_text().split()
        if len(labels) != len(found) or not known.issuperset(labels):
            raise errors.BadInput(
                f"{self._labels_file} has {len(labels):,} labels, {self._validation} "
                f"{len(found):,} images: expected one wnid per image, in the order of their names"
            )
        for (name, *place), wnid in zip(found, labels, strict=True):
            yield Entry(name, "validation", wnid, *place)


def _images(place: Path, left_out: Counter) -> Iterator[tuple]:
    """(name, file, offset, size) of the images in a tar or a folder."""
    return tar_members.images(place, left_out) if place.is_file() else _walk(place, left_out)


def _walk(folder: Path, left_out: Counter) -> Iterator[tuple]:
    """(name, file, offset, size) of the images below a folder."""
    for path in image_files.below(folder, left_out):
        yield path, path, -1, 0

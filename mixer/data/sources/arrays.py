"""`arrays:PATH`: images and labels as NumPy's arrays, in a .npz or in a folder of .npy."""

import dataclasses
import functools
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixer import errors
from mixer.data.sources import splits
from mixer.data.sources.collection import Collection, Part, names, version_of
from mixer.data.sources.label_kinds import numbered

_IMAGES = ("images", "image", "imgs", "img", "x", "data")
_LABELS = ("labels", "label", "y", "targets", "target")
_CLASSES = ("classes", "class_names")
EXPECTED = (
    "expected arrays such as images and labels, x_train and y_train, or test_images and test_labels"
)


@dataclasses.dataclass(frozen=True)
class ArrayImages:
    """The images in an array; read from the file when they are first needed, in each process."""

    file: str
    name: str

    def image(self, row: int) -> np.ndarray:
        return np.array(_array(*version_of(self.file), self.name)[row])

    def where(self, row: int) -> str:
        return f"file {self.file}, array {self.name}, row {row}"


def split_names(path: str) -> set[str]:
    """The splits that the names of the arrays tell."""
    there = _there(f"arrays:{path}", _file(path))
    images = [array for array in there if _words(array)[1].lower() in _IMAGES]
    return {_words(array)[0] for array in images or there}


def collect(path: str, image_key: str = "", label_key: str = "") -> Collection:
    """Images uint8 [N, H, W, C] or [N, H, W], and their labels.

    Integers [N] or [N, 1] are classes; floats [N] or [N, K] are vectors. The split is a word in the
    arrays' names. The arrays of a folder are mapped into memory, those of a .npz are read into it.
    An array `classes` has the names of the classes or outputs.

    Args:
      image_key, label_key: what the arrays are called, without the split.

    Raises:
      BadInput: arrays are missing, or of another type or shape.
    """
    name, file = f"arrays:{path}", _file(path)
    roles, classes = _roles(name, file, image_key, label_key)
    version = version_of(str(file))
    given = tuple(map(str, _array(*version, classes))) if classes else ()
    parts, outputs, kinds = {}, (), {}
    for split, (images, labels) in roles.items():
        pixels, numbers = _array(*version, images), _array(*version, labels)
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4):
            raise errors.BadInput(
                f"{name}: {images} is {pixels.dtype} {list(pixels.shape)}: expected uint8 "
                f"[N, H, W, 3], or [N, H, W] of grey images, or [N, H, W, C], from 0 to 255"
            )
        vectors = numbers.dtype.kind == "f" and numbers.ndim <= 2
        if numbers.shape[:1] != (len(pixels),) or not (
            vectors or (numbers.dtype.kind in "iu" and numbers.size == len(pixels))
        ):
            raise errors.BadInput(
                f"{name}: {labels} is {numbers.dtype} {list(numbers.shape)}: expected an integer, "
                f"or one or several floats, for each of the {len(pixels):,} images of {images}"
            )
        kinds[vectors] = f"{labels} is {numbers.dtype}"
        if len(kinds) > 1:
            raise errors.BadInput(
                f"{name}: {' and '.join(kinds.values())}: expected integers, which are classes, or "
                f"floats, which are numbers to learn, in all splits"
            )
        if vectors:
            numbers = numbers[:, None] if numbers.ndim == 1 else numbers
            rows = [*map(tuple, numbers.tolist())]
            outputs = _outputs(name, labels, numbers.shape[1], given)
        else:
            rows = [_named(name, labels, int(number), given) for number in numbers.ravel()]
        own = [".png"] * len(rows)
        parts[split] = Part(names(split, rows, own), rows, ArrayImages(str(file), images))
    read = {classes, *(array for pair in roles.values() for array in pair)}
    unread = tuple(f"array {array!r}" for array in _there(name, file) if array not in read)
    return Collection(name, parts, given, tuple(_files(file)), unread, outputs)


def _outputs(name: str, labels: str, count: int, given: Sequence[str]) -> tuple[str, ...]:
    """The names of the numbers in a label."""
    if given and len(given) != count:
        raise errors.BadInput(
            f"{name}: {labels} has {count} numbers for each image, but {len(given)} names of them"
        )
    return tuple(given) or (numbered(count) if count > 1 else (_words(labels)[1],))


def _named(name: str, labels: str, number: int, classes: Sequence[str]) -> str:
    if not classes:
        return str(number)
    if not 0 <= number < len(classes):
        raise errors.BadInput(
            f"{name}: {labels} contains {number}: expected 0 to {len(classes) - 1}"
        )
    return classes[number]


def _file(path: str) -> Path:
    file = Path(path).expanduser().absolute()
    if not file.is_dir() and not (file.is_file() and file.suffix.lower() == ".npz"):
        what = "is another kind of file" if file.exists() else "does not exist"
        raise errors.Missing(
            f"dataset 'arrays:{path}': {file} {what}: expected a .npz, or a folder of .npy"
        )
    return file


def _files(file: Path) -> list[Path]:
    return sorted(file.glob("*.npy")) if file.is_dir() else [file]


@functools.lru_cache(maxsize=32)
def _array(file: str, modified: int, name: str) -> np.ndarray:
    try:
        if os.path.isdir(file):
            return np.load(Path(file) / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        with np.load(file, allow_pickle=False) as arrays:
            return arrays[name]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise errors.BadInput(f"{file}: the array {name} cannot be read: {error}") from None


def _there(name: str, file: Path) -> list[str]:
    """The names of the arrays."""
    if file.is_dir():
        return [path.stem for path in _files(file)]
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return list(arrays)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise errors.BadInput(f"{name} cannot be read: {error}") from None


def _words(array: str) -> tuple[str, str]:
    """The split that an array's name tells, and the rest of its name."""
    words = re.split(r"[_\-. ]+", array)
    split = next(filter(None, map(splits.meaning, words)), splits.TRAIN)
    return split, "_".join(word for word in words if not splits.meaning(word))


def _roles(
    name: str, file: Path, image_key: str, label_key: str
) -> tuple[dict[str, tuple[str, str]], str]:
    """{split: (array of images, array of labels)}, and the array of class names or ""."""
    there = _there(name, file)
    wanted = ((image_key,) if image_key else _IMAGES, (label_key,) if label_key else _LABELS)
    found: dict[str, list[list[str]]] = {}
    for array in there:
        split, rest = _words(array)
        for role, usual in enumerate(wanted):
            if rest.lower() in usual or rest in usual:
                found.setdefault(split, [[], []])[role].append(array)
    for split, roles in found.items():
        if [len(arrays) for arrays in roles] != [1, 1]:
            said = " and ".join(
                f"{', '.join(arrays) or 'none'} for the {what}"
                for arrays, what in zip(roles, ("images", "labels"), strict=True)
            )
            raise errors.BadInput(f"{name}: {said} of {split}: {EXPECTED}{_keys(there)}")
    if not found:
        raise errors.BadInput(f"{name}: {EXPECTED}{_keys(there)}")
    classes = next((array for array in there if array in _CLASSES), "")
    return {split: (images[0], labels[0]) for split, (images, labels) in found.items()}, classes


def _keys(there: Sequence[str]) -> str:
    return (
        f". It has {', '.join(there) or 'none'}; config.input.image_key and label_key say what "
        f"they are called without the split"
    )

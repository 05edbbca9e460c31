"""`cifar:PATH`: CIFAR-10 and CIFAR-100 as downloaded from https://www.cs.toronto.edu/~kriz."""

import codecs
import dataclasses
import functools
import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixer import errors
from mixer.data.sources import splits, tar_members
from mixer.data.sources.collection import Collection, Part, names, version_of

_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))


@dataclasses.dataclass(frozen=True)
class Form:
    """One of the published archives.

    Attributes:
      folder: in the archive.
      files: {split: files}.
      classes: {label_key: file with the names}; the first is the default. In Python's form the file
        is the same for all.
      coarse: the bytes of a binary record before its label.
    """

    folder: str
    files: Mapping[str, tuple[str, ...]]
    classes: Mapping[str, str]
    coarse: int = 0

    @property
    def every(self) -> list[str]:
        """The names of all files."""
        return [*(f for several in self.files.values() for f in several), *self.classes.values()]


_FORMS = (
    Form(
        "cifar-10-batches-py",
        {splits.TRAIN: _BATCHES, splits.TEST: ("test_batch",)},
        {"labels": "batches.meta"},
    ),
    Form(
        "cifar-100-python",
        {splits.TRAIN: ("train",), splits.TEST: ("test",)},
        {"fine_labels": "meta", "coarse_labels": "meta"},
    ),
    Form(
        "cifar-10-batches-bin",
        {splits.TRAIN: tuple(f"{b}.bin" for b in _BATCHES), splits.TEST: ("test_batch.bin",)},
        {"labels": "batches.meta.txt"},
    ),
    Form(
        "cifar-100-binary",
        {splits.TRAIN: ("train.bin",), splits.TEST: ("test.bin",)},
        {"fine_labels": "fine_label_names.txt", "coarse_labels": "coarse_label_names.txt"},
        coarse=1,
    ),
)
EXPECTED = (
    "expected cifar-10-python.tar.gz, cifar-10-binary.tar.gz, cifar-100-python.tar.gz or "
    "cifar-100-binary.tar.gz, or its unpacked folder"
)


@dataclasses.dataclass(frozen=True)
class CifarImages:
    """The images of a split; read when they are first needed, in each process."""

    path: str
    split: str

    def image(self, row: int) -> np.ndarray:
        planes = _load(*version_of(self.path)).pixels[self.split][row]
        return planes.reshape(3, 32, 32).transpose(1, 2, 0)

    def where(self, row: int) -> str:
        return f"file {self.path}, image {row} of {self.split}"


def split_names(path: str) -> set[str]:
    """train and test."""
    return {splits.TRAIN, splits.TEST}


def collect(path: str, image_key: str = "", label_key: str = "") -> Collection:
    """The images in the order of the files; the archive is read into memory.

    Args:
      label_key: of CIFAR-100: fine_labels (the default) or coarse_labels.

    Raises:
      Missing: nothing is there.
      BadInput: not one of the archives, or a damaged one.
    """
    name, place = f"cifar:{path}", Path(path).expanduser().absolute()
    if not place.exists():
        raise errors.Missing(f"dataset {name!r}: {place} does not exist: {EXPECTED}")
    if image_key:
        raise errors.BadInput(f"config.input.image_key={image_key}: leave it empty for {name}")
    found = _load(*version_of(str(place)))
    if label_key and label_key not in found.classes:
        raise errors.unknown("config.input.label_key", label_key, found.classes)
    key = label_key or next(iter(found.classes))
    classes = found.classes[key]
    parts = {}
    for split, by_key in found.labels.items():
        for label in (by_key[key].min(), by_key[key].max()):
            if not 0 <= label < len(classes):
                raise errors.BadInput(f"{name}: label {label}: expected 0 to {len(classes) - 1}")
        labels = [classes[label] for label in by_key[key]]
        rows = names(split, labels, [".png"] * len(labels))
        parts[split] = Part(rows, labels, CifarImages(str(place), split))
    files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    return Collection(name, parts, classes, tuple(files))


@dataclasses.dataclass(frozen=True)
class _Loaded:
    """pixels: {split: uint8 [N, 3072]}; labels: {split: {label_key: [N]}}."""

    pixels: dict[str, np.ndarray]
    labels: dict[str, dict[str, np.ndarray]]
    classes: dict[str, tuple[str, ...]]


@functools.lru_cache(maxsize=2)
def _load(path: str, modified: int) -> _Loaded:
    files = _contents(Path(path))
    form = next((form for form in _FORMS if files.keys() & form.files[splits.TRAIN]), None)
    if form is None:
        raise errors.BadInput(f"cifar:{path}: {EXPECTED}, but it has {errors.shown(list(files))}")
    if missing := [file for file in form.every if file not in files]:
        raise errors.BadInput(f"cifar:{path}: {', '.join(missing)} of {form.folder} is missing")
    loaded = _Loaded({}, {}, {})
    for split, several in form.files.items():
        found = [_batch(path, file, files[file], form) for file in several]
        loaded.pixels[split] = np.concatenate([pixels for pixels, _ in found])
        loaded.labels[split] = {
            key: np.concatenate([labels[key] for _, labels in found]) for key in form.classes
        }
    for key, file in form.classes.items():
        loaded.classes[key] = _class_names(path, file, files[file], key)
    return loaded


def _contents(path: Path) -> dict[str, bytes]:
    """{name: bytes} of the published files in an archive or folder, without their folder."""
    known = {file for form in _FORMS for file in form.every}
    if path.is_dir():
        inside = [path / form.folder for form in _FORMS if (path / form.folder).is_dir()]
        if len(inside) > 1:
            raise errors.BadInput(
                f"cifar:{path}: it contains {' and '.join(p.name for p in inside)}: name one"
            )
        folder = inside[0] if inside else path
        files = (p for p in sorted(folder.iterdir()) if p.name in known and p.is_file())
        return {p.name: p.read_bytes() for p in files}
    found = {}
    with tar_members.readable(path), tarfile.open(path) as tar:
        for member in tar:
            if member.isfile() and (name := Path(member.name).name) in known:
                found[name] = tar.extractfile(member).read()
        tar_members.drain(tar.fileobj)
    return found


def _batch(path: str, file: str, data: bytes, form: Form) -> tuple[np.ndarray, dict]:
    """(pixels uint8 [N, 3072], {label_key: labels [N]})."""
    if file.endswith(".bin"):
        width = len(form.classes) + 3072
        if not data or len(data) % width:
            raise errors.BadInput(
                f"cifar:{path}: {file} has {len(data):,} bytes: expected a multiple of {width:,}"
            )
        records = np.frombuffer(data, np.uint8).reshape(-1, width)
        # Of two labels the coarse one comes first.
        columns = {key: records[:, form.coarse - i] for i, key in enumerate(form.classes)}
        return records[:, len(form.classes) :], columns
    content = _unpickled(path, file, data)
    pixels = content.get(b"data")
    labels = {key: np.asarray(content.get(key.encode(), ())) for key in form.classes}
    fits = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 2
    if (
        not fits
        or pixels.shape[1] != 3072
        or any(several.shape != pixels.shape[:1] for several in labels.values())
    ):
        raise errors.BadInput(
            f"cifar:{path}: {file} has {', '.join(map(repr, content))}: expected data uint8 "
            f"[N, 3072] and {' and '.join(form.classes)} [N]"
        )
    return pixels, labels


def _class_names(path: str, file: str, data: bytes, key: str) -> tuple[str, ...]:
    if file.endswith(".txt"):
        return tuple(data.decode().split())
    content = _unpickled(path, file, data)
    found = content.get(f"{key.removesuffix('s')}_names".encode())
    if not isinstance(found, list):
        raise errors.BadInput(f"cifar:{path}: {file} has no {key.removesuffix('s')}_names")
    return tuple(name.decode() for name in found)


class _Arrays(pickle.Unpickler):
    """Unpickles numbers, text and NumPy's arrays; a pickle that calls anything else is refused."""

    def find_class(self, module: str, name: str) -> Any:
        makes_array = np.zeros(0).__reduce__()[0]
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): makes_array,
            ("numpy._core.multiarray", "_reconstruct"): makes_array,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): codecs.encode,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which is not an array")
        return allowed[module, name]


def _unpickled(path: str, file: str, data: bytes) -> dict[bytes, Any]:
    try:
        content = _Arrays(io.BytesIO(data), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise errors.BadInput(f"cifar:{path}: {file} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise errors.BadInput(f"cifar:{path}: {file} is a {type(content).__name__}, not a batch")
    return content

"""Where examples come from: random access to undecoded images and their labels.

A source has `name`, `split`, `classes` (names; the label is the index), `__len__`, `__getitem__(i)`
-> {"image": bytes of a file or uint8 [H, W, 3], "label": int}, and `where(i)`, which names example
i in error messages. It pickles, and imports no JAX.

It may have `read(start, stop)`, which gives a list of examples at the cost of one, and `remote`:
each read is a request to another machine.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import tensorflow_datasets as tfds

from mixer import errors
from mixer.data import digits, object_store, patience, records, remote_dataset

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")


class Source(Protocol):
    """See the module's docstring."""

    name: str
    split: str
    classes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def where(self, index: int) -> str: ...


def fingerprint(source: Source) -> str:
    """Changes with the examples of a source, as far as can be told without reading them."""
    listed = getattr(source, "files", ())
    content = repr((source.name, source.split, tuple(source.classes), len(source), listed))
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


Factory = Callable[[str, str, Path | str], Source]
_SOURCES: dict[str, Factory] = {}


def register_source(name: str, factory: Factory) -> None:
    """Makes datasets called `name` or `name:ARGUMENT` come from your own code.

    `factory(argument, split, data_dir)` returns a `Source`; `argument` is what follows the colon.
    """
    _SOURCES[name] = factory


_LOCAL = "~/tensorflow_datasets"


def place(directory: str) -> Path | str:
    """A folder as an absolute path; gs://BUCKET/FOLDER stays a string."""
    if object_store.is_remote(directory):
        return directory
    return Path(directory).expanduser().absolute()


def default_data_dir() -> Path | str:
    """TFDS's own rule: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return place(os.environ.get("TFDS_DATA_DIR", _LOCAL))


def open_source(dataset: str, split: str, data_dir: Path | str | None = None) -> Source:
    """Opens a split of a dataset.

    Args:
      dataset: "digits", "folder:PATH", a registered source, or the name of a prepared TFDS
        dataset such as "imagenet2012" or "cifar10:3.0.2".
      split: in TFDS's notation, for instance "train[:98%]" or "train+validation".
      data_dir: where TFDS datasets lie, a folder or gs://BUCKET/FOLDER (never written to: the
        digits are then in TFDS's own local folder); by default `default_data_dir()`.

    Raises:
      BadInput: unknown dataset or split, a dataset that is not prepared, or a `data_dir` that
        does not answer.
    """
    kind, _, argument = dataset.partition(":")
    data_dir = data_dir or default_data_dir()
    if kind in _SOURCES:
        return _SOURCES[kind](argument, split, data_dir)
    if kind == "folder":
        return FolderSource.open(argument, split)
    if dataset == "digits":
        data_dir = place(_LOCAL) if object_store.is_remote(data_dir) else data_dir
        patience.look(data_dir)
        try:
            digits.prepare(data_dir)
        except OSError as error:
            raise errors.BadInput(
                f"the digits cannot be written to {data_dir}: {error}. Set config.runtime.data_dir "
                f"or $TFDS_DATA_DIR to a folder that can be written"
            ) from None
    with remote_dataset.metadata(dataset, data_dir) as local:
        return TfdsSource.open(dataset, split, data_dir, local)


def _absolute_ranges(dataset: str, split: str, sizes: dict[str, int]) -> list[tuple[str, slice]]:
    """TFDS's split notation -> [(split's name, slice)]."""
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[size], num_bytes=0)
        for name, size in sizes.items()
    }
    try:
        instructions = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except ValueError as error:
        have = ", ".join(f"{name} ({size:,})" for name, size in sorted(sizes.items()))
        first = str(error).splitlines()[0]
        raise errors.BadInput(f"split {split!r} of {dataset}: {first} It has {have}") from None
    return [(i.splitname, slice(i.from_, i.to)) for i in instructions]


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A prepared TFDS dataset with features `image` and `label`, stored as ArrayRecord."""

    name: str
    split: str
    classes: Sequence[str]
    records: Any
    remote: bool = False

    @classmethod
    def open(
        cls, dataset: str, split: str, data_dir: Path | str, local: Path | None = None
    ) -> "TfdsSource":
        """See `open_source`; `local` is a folder with the metadata of a remote `data_dir`."""
        local = local or data_dir
        try:
            builder = tfds.builder(dataset, data_dir=local, try_gcs=False)
        except tfds.core.registered.DatasetNotFoundError:
            known = [*_SOURCES, "digits", *tfds.list_builders(with_community_datasets=False)]
            found = errors.unknown("dataset", dataset, known)
            line = str(found).split(" Known:")[0]
            raise errors.BadInput(
                f"{line} It is none of TFDS's, and not prepared in {data_dir}. Your own images: "
                f"folder:PATH, with PATH/train/<class>/*.jpg"
            ) from None
        except (ValueError, AssertionError) as error:
            first = (str(error).strip() or repr(error)).splitlines()[0]
            raise errors.BadInput(f"dataset {dataset!r}: {first}") from None
        sizes = {name: info.num_examples for name, info in builder.info.splits.items()}
        if not sizes:
            raise errors.BadInput(_how_to_prepare(dataset, data_dir))
        features = builder.info.features
        if not {"image", "label"} <= set(features):
            raise errors.BadInput(
                f"dataset {dataset!r} has features {', '.join(features)}: expected image and label"
            )
        ranges = _absolute_ranges(dataset, split, sizes)
        if not any(len(range(sizes[part])[chosen]) for part, chosen in ranges):
            raise errors.BadInput(f"dataset {dataset!r}: split {split!r} holds no examples")
        if not hasattr(features["label"], "names"):
            raise errors.BadInput(f"dataset {dataset!r}: its feature label is no ClassLabel")
        skip = {"image": tfds.decode.SkipDecoding()}
        try:
            opened = builder.as_data_source(split, decoders=skip)
        except NotImplementedError:
            raise errors.BadInput(_how_to_convert(dataset, builder.data_path)) from None
        remote = object_store.is_remote(data_dir)
        if remote:
            opened = remote_dataset.Records.open(builder, split, skip, local, data_dir)
        return cls(dataset, split, tuple(features["label"].names), opened, remote)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return _example(self.records[index])

    def read(self, start: int, stop: int) -> list[dict[str, Any]]:
        """Examples start ... stop-1, read together."""
        return [_example(record) for record in self.records.__getitems__(range(start, stop))]

    def where(self, index: int) -> str:
        record = self.records[index]
        file = record.get("file_name")
        named = f", file {file.decode()}" if file else ""
        return f"dataset {self.name}, split {self.split}, example {index}{named}"


def _example(record: dict[str, Any]) -> dict[str, Any]:
    return {"image": record["image"], "label": int(record["label"])}


def _how_to_prepare(dataset: str, data_dir: Path | str) -> str:
    return (
        f"dataset {dataset!r} is not prepared in {data_dir}. Once: pip install -r "
        f'requirements-prepare.txt && python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder({dataset!r}, data_dir={str(data_dir)!r}, file_format='array_record')"
        f'.download_and_prepare()"'
    )


def _how_to_convert(dataset: str, path: str) -> str:
    return (
        f"dataset {dataset!r} at {path} is stored as TFRecord, which has no random access. Once: "
        f"pip install -r requirements-prepare.txt && tfds convert_format --dataset_dir={path} "
        f"--out_file_format=array_record"
    )


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Images as PATH/<split>/<class>/**/*.jpg; without split folders, all of PATH is `train`.

    The classes are the names of the training split's folders, sorted. Files are listed in the
    order of a hash of their path below PATH, so that a range of a split holds every class in
    proportion.
    """

    name: str
    split: str
    classes: Sequence[str]
    root: str
    files: tuple[tuple[str, int], ...]

    @classmethod
    def open(cls, path: str, split: str) -> "FolderSource":
        name, root = f"folder:{path}", Path(path).expanduser()
        if not root.is_dir():
            raise errors.BadInput(f"dataset {name!r}: {root.absolute()} is not a folder")
        folders = _folders(root)
        layout = (
            "expected PATH/train/<class>/*.jpg (or PATH/<class>/*.jpg) with two or more classes"
        )
        if "train" not in folders:
            places = {"train": root}
        else:
            places = {part: root / part for part in folders}
        classes = _folders(places["train"])
        if len(classes) < 2:
            raise errors.BadInput(
                f"{name}: {places['train']} holds {len(classes)} folders: {layout}"
            )
        wanted = [part for part in places if part in split] or places
        listed = {part: _list_images(name, root, places[part], classes) for part in wanted}
        sizes = {part: len(files) for part, files in listed.items()}
        files = []
        for part, chosen in _absolute_ranges(name, split, sizes):
            files += listed[part][chosen]
        if not files:
            raise errors.BadInput(f"{name}: split {split!r} holds no images; {layout}")
        return cls(name, split, tuple(classes), str(root), tuple(files))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file, label = self.files[index]
        return {"image": (Path(self.root) / file).read_bytes(), "label": label}

    def where(self, index: int) -> str:
        return (
            f"dataset {self.name}, split {self.split}, example {index}, file {self.files[index][0]}"
        )


def _folders(path: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))


def _list_images(name: str, root: Path, folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """[(path below root, label)] of a split's folder, in hash order."""
    strange = sorted(set(_folders(folder)) - set(classes))
    if strange:
        raise errors.BadInput(
            f"{name}: {folder} holds classes that the training split lacks: {', '.join(strange)}"
        )
    files = []
    for label, class_name in enumerate(classes):
        for parent, _, names in os.walk(folder / class_name, followlinks=True):
            below = Path(parent).relative_to(root)
            images = (n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and n[0] != ".")
            files += [((below / image).as_posix(), label) for image in images]
    return sorted(files, key=lambda file: records.hash_key(file[0]))


def is_dataset(name: str) -> bool:
    """Whether `name` looks like a dataset: a folder, a registered source or one of TFDS's."""
    kind = name.partition(":")[0]
    if kind in _SOURCES or kind in ("folder", "digits"):
        return True
    return kind.split("/")[0] in tfds.list_builders(with_community_datasets=False)

"""Opens datasets as sources: random access to undecoded images and their labels.

A source has `name`, `split`, `classes` (names; the label is the index), `__len__`, `__getitem__(i)`
-> {"image": bytes of a file or uint8 [H, W, 3], "label": int}, and `where(i)`, which names example
i in error messages. It pickles, and imports no JAX.

Optional attributes: `max_labels`: if above 0, a label is a sequence of at most this many ints,
possibly empty or with repeats. `label_kind`: "distribution", "probabilities" or "values" if a label
is a sequence with a number for each of `classes`: see label_kinds.py. `identity`: distinguishes its
examples from those of an otherwise equal source. `summary()`: one line on how the examples were
interpreted. `published`: whether it is one of TFDS's own datasets, whose images are meant as
TensorFlow decodes them. `read(start, stop)`: returns a list of examples at the cost of one.
`remote`: each read is a request to another machine.
`epoch`: how many examples an epoch counts, if not all of them. `parts`: the sources that it joins.
`every_label()`: the labels of all examples in order, without reading the images; see `labels_of`.
`absent()`: the files of examples that do not exist, found out without reading any.
"""

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from mixer import errors, storage
from mixer.data.sources import digits, in_place, label_kinds, remote_dataset, splits
from mixer.data.sources.folder import FolderSource
from mixer.data.sources.in_place import is_in_place
from mixer.data.sources.listed import ListedSource
from mixer.data.sources.real import RealSource
from mixer.data.sources.tfds import TfdsSource
from mixer.data.sources.tfds_builder import published_names
from mixer.data.sources.vtab import VtabSource
from mixer.storage import timeout


class Source(Protocol):
    """See the module's docstring."""

    name: str
    split: str
    classes: Sequence[str]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict[str, Any]: ...

    def where(self, index: int) -> str: ...


def fingerprint(source: Source) -> str:
    """A hash that changes with the examples of a source, as far as is known without reading them.

    The name of a source with an `identity` does not count, so a folder may be moved.
    """
    identity = getattr(source, "identity", None)
    named = (source.name,) if identity is None else identity
    content = repr((named, source.split, tuple(source.classes), len(source)))
    return hashlib.blake2b(content.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def max_labels(source: Source) -> int:
    """The most labels that an example has; 0 for data with one label each."""
    return getattr(source, "max_labels", 0)


def epoch(source: Source) -> int:
    """The number of examples that an epoch counts."""
    return getattr(source, "epoch", len(source))


def parts(source: Source) -> Sequence[Source]:
    """The sources that this one joins, or this one."""
    return getattr(source, "parts", (source,))


def summary(source: Source) -> str:
    """One line on how the examples were interpreted: `source.summary()`, if it has one."""
    if own := getattr(source, "summary", None):
        return own()
    return f"{source.name} {source.split}: {len(source):,} images, {label_kinds.summary(source)}"


Factory = Callable[[str, str, Path | str], Source]
_SOURCES: dict[str, Factory] = {"real": RealSource.open, "vtab": VtabSource.open}


def register_source(name: str, factory: Factory) -> None:
    """Registers your own code for datasets called `name` or `name:ARGUMENT`.

    `factory(argument, split, data_dir)` returns a `Source`; `argument` is what follows the colon.
    """
    _SOURCES[name] = factory


def split_to_measure(dataset: str, trained_on: str = "") -> str:
    """The split that "auto" means in an evaluation: test, else validation, else from train.

    From train it is the tenth that training holds out if the model was trained on this dataset
    (`trained_on`), else all of it.
    """
    if not is_in_place(dataset):
        return splits.TEST
    train, measured = in_place.usual_splits(dataset)
    same = in_place.same_place(dataset, trained_on)
    return measured if same or train == splits.TRAIN else splits.TRAIN


def split_to_train_on(dataset: str) -> str:
    """train; for data read in place with neither test nor validation, nine tenths of it."""
    return in_place.usual_splits(dataset)[0] if is_in_place(dataset) else splits.TRAIN


_LOCAL = "~/tensorflow_datasets"


def place(directory: str) -> Path | str:
    """Makes a folder an absolute path; gs://BUCKET/FOLDER stays a string.

    Raises:
      BadInput: another kind of URL.
    """
    if storage.is_remote(directory):
        if not directory.startswith("gs://"):
            raise errors.BadInput(f"{directory}: expected a folder or gs://BUCKET/FOLDER")
        return directory
    return Path(directory).expanduser().absolute()


def default_data_dir() -> Path | str:
    """TFDS's own rule: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return place(os.environ.get("TFDS_DATA_DIR", _LOCAL))


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a dataset does not record about itself.

    Attributes:
      classes: the class names in label order, for an image folder, for labels that are numbers, and
        for a dataset whose own names are among them; (): the dataset's own, which for a folder are
        those of its training split, sorted as text. Of vectors, the names of the outputs.
      num_classes: the number of classes, if labels are numbers without names.
      image_key, label_key: the features of a TFDS dataset, "": image, and label, labels or
        real_label; or the columns, endings or arrays of data read in place, "": the usual ones.
        Several columns, with commas between them, or those of a manifest are numbers.
    """

    classes: tuple[str, ...] = ()
    num_classes: int | None = None
    image_key: str = ""
    label_key: str = ""


AS_IT_IS = Reading()


def open_source(
    dataset: str,
    split: str,
    data_dir: Path | str | None = None,
    reading: Reading = AS_IT_IS,
) -> Source:
    """Opens a split of a dataset.

    Args:
      dataset: "digits", "folder:PATH" or another kind of `in_place`, "real" or "real:PATH"
        (`RealSource`), "vtab:TASK" (`VtabSource`), a registered source, or the name of a prepared
        TFDS dataset such as "imagenet2012" or "cifar10:3.0.2".
      split: in TFDS's notation, for instance "train[:98%]" or "train+validation". For folders and
        TFDS datasets, train, validation and test may be spelled differently than in the dataset.
      data_dir: the folder or gs://BUCKET/FOLDER of TFDS datasets, by default `default_data_dir()`.
        A bucket is never written to: the digits are then in TFDS's default local folder.
      reading: what the dataset does not record about itself.

    Raises:
      BadInput: unknown dataset or split, a dataset that is not prepared, or a `data_dir` that
        does not respond.
    """
    kind, _, argument = dataset.partition(":")
    data_dir = data_dir or default_data_dir()
    if kind in _SOURCES:
        return _SOURCES[kind](argument, split, data_dir)
    if kind == "folder":
        return FolderSource.open(argument, split, reading.classes)
    if in_place.is_listed(dataset):
        found = in_place.collect(dataset, reading.image_key, reading.label_key)
        return ListedSource.open(found, split, reading.classes, reading.num_classes)
    if dataset == "digits":
        data_dir = place(_LOCAL) if storage.is_remote(data_dir) else data_dir
        timeout.look(data_dir)
        try:
            digits.prepare(data_dir)
        except OSError as error:
            raise errors.BadInput(
                f"the digits cannot be written to {data_dir}: {error}. Set config.runtime.data_dir "
                f"or $TFDS_DATA_DIR to a writable folder"
            ) from None
    known = ("digits", *_SOURCES)
    return TfdsSource.open(dataset, split, data_dir, known, **dataclasses.asdict(reading))


def is_tfds(dataset: str) -> bool:
    """Whether the dataset is in TFDS's layout, with named features."""
    return dataset.partition(":")[0] not in (*in_place.NAMES, *_SOURCES)


def datasets() -> list[str]:
    """Names of datasets: ours, registered ones, TFDS's, and those in `default_data_dir()`."""
    found = [
        "digits",
        *(f"{kind}:PATH" for kind in in_place.NAMES),
        *_SOURCES,
        *published_names(),
    ]
    data_dir = default_data_dir()
    if storage.is_remote(data_dir) or not data_dir.is_dir():
        return found
    return [*found, *(path.name for path in data_dir.iterdir() if is_dataset(path.name))]


def is_dataset(name: str) -> bool:
    """Whether `name` looks like a dataset.

    That is a folder or another kind of `in_place`, a registered source, one of TFDS's, or a
    prepared one in `default_data_dir()`.
    """
    kind = name.partition(":")[0]
    if kind in _SOURCES or kind in (*in_place.NAMES, "digits"):
        return True
    if kind.split("/")[0] in published_names():
        return True
    if not re.fullmatch(r"\w+(/[\w.-]+)*", kind):
        return False
    data_dir = default_data_dir()
    if storage.is_remote(data_dir):
        return bool(remote_dataset.files(kind, data_dir))
    timeout.look(data_dir)
    # name/version, or name/config/version with or without the config in `name`
    versions = ("*/features.json", "*/*/features.json")
    return any(any((data_dir / kind).glob(v)) for v in versions)

"""Opens the config's datasets, and the readers that turn them into batches."""

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data import turbojpeg
from mixer.data.decode import Decoding
from mixer.data.sources import (
    Reading,
    Source,
    default_data_dir,
    image_files,
    is_in_place,
    is_tfds,
    open_source,
    place,
    split_to_measure,
    split_to_train_on,
    staging,
)
from mixer.data.sources.folder_layout import Layout
from mixer.data.sources.subset import fraction_of
from mixer.data.sources.tfds import TfdsSource, numbers
from mixer.runs import sampling
from mixer.runs.imports import import_modules
from mixer.runs.keys import at_least, within
from mixer.runs.model import channels_of, image_size_of, mesh_of
from mixer.runs.reader import Reader, open_reader
from mixer.training import meshes

_DECODINGS = ("auto", "tensorflow", "upright")


def reading_of(config: ConfigDict, dataset: str, classes: tuple[str, ...] = ()) -> Reading:
    """How to read a dataset; the keys in `config.input` apply to `config.dataset` only.

    Args:
      classes: the model's class names, by which examples are labelled; (): `class_names`, if given.
    """
    if dataset != config.dataset or not (is_tfds(dataset) or is_in_place(dataset)):
        return Reading(classes)
    names = classes or class_names(config)
    if dataset.startswith("folder:"):
        return Reading(names)
    return Reading(
        classes=names,
        num_classes=None if names else config.model.num_classes,
        image_key=config.input.image_key,
        label_key=config.input.label_key,
    )


def training_split(config: ConfigDict) -> str:
    """`config.input.split`; "auto" means `split_to_train_on`."""
    split = config.input.split
    return split_to_train_on(config.dataset) if split == "auto" else split


def class_names(config: ConfigDict) -> tuple[str, ...]:
    """The names in the file `config.input.class_names`, in order; () without a file.

    Raises:
      BadInput: the file cannot be read, or names in it are missing or occur twice.
    """
    file = config.input.class_names
    if not file:
        return ()
    key = f"config.input.class_names={file}"
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig").strip()
        names = json.loads(text) if text.startswith(("[", "{")) else text.splitlines()
    except (OSError, ValueError) as error:
        raise errors.BadInput(f"{key} cannot be read: {error}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise errors.BadInput(f"{key}: expected one name per line, or a JSON list of names")
    names = tuple(name.strip() for name in names)
    if not all(names) or len(set(names)) < max(len(names), 2):
        twice = next((n for i, n in enumerate(names) if n in names[:i]), "")
        trouble = f"{twice!r} occurs twice" if twice else "a line is empty, or there is only one"
        raise errors.BadInput(f"{key}: {trouble}: expected the names of two or more classes")
    return names


def data_dir(config: ConfigDict) -> Path | str | None:
    """Folder of the TFDS datasets; None for TFDS's default."""
    return place(config.runtime.data_dir) if config.runtime.data_dir else None


def open_data(
    config: ConfigDict,
    dataset: str,
    split: str,
    *,
    classes: tuple[str, ...] = (),
    trained_on: str | None = None,
) -> Source:
    """Opens a split in place, or as a copy in `config.input.stage`.

    Args:
      split: in TFDS's notation, or "auto": see `split_to_measure`.
      classes: see `reading_of`.
      trained_on: the dataset that the model was trained on; by default `config.dataset`.

    Raises:
      BadInput: the training data cannot be copied. Other data are then read in place.
    """
    folder = config.input.stage
    origin = data_dir(config) or default_data_dir()
    if split == "auto":
        split = split_to_measure(dataset, config.dataset if trained_on is None else trained_on)
    reading = reading_of(config, dataset, classes)
    named_by = trained_on or config.dataset
    if dataset.startswith("folder:") and not named_by.startswith("folder:") and numbers(classes):
        _check_all_there(dataset, classes)
    source = open_source(dataset, split, origin, reading)
    copied = dataset == config.dataset or isinstance(source, TfdsSource)
    if folder and copied and dataset != "digits":
        return staging.open_staged(dataset, split, origin, place(folder), reading)
    return source


def _check_all_there(dataset: str, classes: tuple[str, ...]) -> None:
    """Refuses a folder with only some of a model's classes if these are numbers without names."""
    layout = Layout.of(dataset.removeprefix("folder:"), classes)
    there = {name for place in layout.splits.values() for name in image_files.folders(place)}
    if missing := [name for name in classes if name not in there]:
        raise errors.BadInput(
            f"{dataset} has no folders {errors.shown(missing)}: the model's {len(classes):,} "
            f"classes are numbers without names, and the numbers of these {len(there):,} folders "
            f"may mean others. If they mean the same, make empty folders for the missing ones"
        )


def decoding_of(
    config: ConfigDict, source: Source | None, card: ModelCard | None = None, *, fast: bool = False
) -> Decoding:
    """How to decode images: `config.input.decoding`, `max_pixels` and `max_aspect_ratio`.

    Args:
      source: where the images come from; None: files listed one by one.
      card: of an earlier run; decides if `config.input.decoding` is "auto".

    Raises:
      BadInput: unknown decoding, a limit below 1, or `fast` without libjpeg-turbo.
    """
    way, pixels, ratio = (
        config.input[key] for key in ("decoding", "max_pixels", "max_aspect_ratio")
    )
    if way not in _DECODINGS:
        raise errors.unknown("config.input.decoding", way, _DECODINGS)
    for key, value in (("max_pixels", pixels), ("max_aspect_ratio", ratio)):
        if not value >= 1:
            raise errors.BadInput(f"config.input.{key}={value}: expected 1 or more")
    if fast and not turbojpeg.available():
        raise errors.BadInput(
            "config.input.fast_decode=True needs the C library libjpeg-turbo 3 or later, which is "
            "not found (pip install pylibjxl, conda install libjpeg-turbo, brew install jpeg-turbo)"
        )
    if way == "auto" and card is not None:
        way = card.decoding
    published = getattr(source, "published", False)
    as_tensorflow = way == "tensorflow" or (way == "auto" and published)
    return Decoding(as_tensorflow, fast, pixels, ratio)


def skip_bad(config: ConfigDict) -> bool:
    """Whether unreadable examples are skipped (`config.input.on_bad`)."""
    if config.input.on_bad not in ("error", "skip"):
        raise errors.unknown("config.input.on_bad", config.input.on_bad, ("error", "skip"))
    return config.input.on_bad == "skip"


def training_source(config: ConfigDict) -> tuple[Source, int]:
    """The training examples, and how many an epoch counts.

    An epoch counts the whole split before `config.input.fraction`, and no other data set of a
    mixture.
    """
    fraction = config.input.fraction
    if not 0 < fraction <= 1:
        raise errors.BadInput(f"config.input.fraction={fraction}: expected 0 < fraction <= 1")
    whole = open_data(config, config.dataset, training_split(config))
    names = class_names(config)
    if names and names != tuple(whole.classes):
        raise errors.BadInput(
            f"config.input.class_names={config.input.class_names} begins with {first_few(names)}, "
            f"but {config.dataset} has its own names: {first_few(whole.classes)}. Leave it empty"
        )
    source = whole
    if fraction != 1:
        seed = config.input.fraction_seed
        within(0, 2**32, **{"input.fraction_seed": seed})
        source = fraction_of(whole, fraction, seed)
    return sampling.mixture(config, source, functools.partial(open_data, config)), len(whole)


def training_reader(config: ConfigDict, source: Source, mesh: Mesh, batch_size: int) -> Reader:
    """The training split, shuffled and augmented as the config says."""
    at_least(0, **{f"runtime.{k}": config.runtime[k] for k in ("threads", "workers")})
    return open_reader(
        source,
        config.input.transform,
        image_size_of(config),
        batch_size=batch_size,
        seed=config.seed,
        order=sampling.order_of(config, source, batch_size),
        mesh=mesh,
        threads=config.runtime.threads,
        workers=config.runtime.workers,
        channels=channels_of(config),
        decoding=decoding_of(config, source, fast=config.input.fast_decode),
        skip_bad=skip_bad(config),
    )


def open_training_images(config: ConfigDict, batch_size: int) -> Reader:
    """Reads the training images without a model; rounds `batch_size` up to fit the devices."""
    import_modules(config.imports)
    within(0, 2**32, seed=config.seed)
    mesh = mesh_of(config)
    source, _ = training_source(config)
    return training_reader(config, source, mesh, -(-batch_size // mesh.size) * mesh.size)


def evaluation_reader(
    config: ConfigDict,
    name: str,
    dataset: str,
    split: str,
    transform: str,
    card: ModelCard,
    mesh: Mesh,
    *,
    by_name: bool = False,
) -> Reader:
    """Opens a reader of one pass over a split, in order, for `config.evaluators.<name>`.

    Args:
      by_name: whether a folder's images are labelled by the names of the model's classes.
    """
    batch_size = config.evaluators[name].batch_size
    meshes.check_batch_size(batch_size, mesh, f"evaluators.{name}.batch_size")
    source = open_data(
        config,
        dataset,
        split,
        classes=card.classes if by_name else (),
        trained_on=card.dataset,
    )
    return open_reader(
        source,
        transform,
        card.image_size,
        batch_size=batch_size,
        seed=config.seed,
        order=None,
        mesh=mesh,
        threads=config.runtime.threads,
        workers=0,  # starting processes for each pass costs more time than they save
        channels=card.channels,
        decoding=decoding_of(config, source, card),
        skip_bad=skip_bad(config),
    )


@contextlib.contextmanager
def unless_missing(optional: bool, what: str) -> Iterator[None]:
    """Suppresses `Missing` if `optional`, with a warning that `what` is left out."""
    try:
        yield
    except errors.Missing as error:
        if not optional:
            raise
        print(f"warning: {what} is left out: {error}", flush=True)


def first_few(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

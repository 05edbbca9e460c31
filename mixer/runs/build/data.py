"""From the config to the sources of examples."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from mixer import errors
from mixer.data import image_files, staging
from mixer.data.folder_layout import Layout
from mixer.data.sources import (
    Reading,
    Source,
    default_data_dir,
    is_tfds,
    open_source,
    place,
    split_to_measure,
    split_to_train_on,
)
from mixer.data.tfds_source import TfdsSource, numbers


def reading_of(config: ConfigDict, dataset: str, classes: tuple[str, ...] = ()) -> Reading:
    """How a dataset is to be read: `config.dataset` as `config.input` says.

    Args:
      classes: a model's, by whose names the examples are labelled; (): `class_names`, if given.
    """
    tfds = is_tfds(dataset)
    if dataset != config.dataset or not (tfds or dataset.startswith("folder:")):
        return Reading(classes)
    names = classes or class_names(config)
    if not tfds:
        return Reading(names)
    return Reading(
        classes=names,
        num_classes=None if names else config.model.num_classes,
        image_key=config.input.image_key,
        label_key=config.input.label_key,
    )


def training_split(config: ConfigDict) -> str:
    """`config.input.split`, in which "auto" is `split_to_train_on`."""
    split = config.input.split
    return split_to_train_on(config.dataset) if split == "auto" else split


def class_names(config: ConfigDict) -> tuple[str, ...]:
    """The names in the file `config.input.class_names`, in their order; () without one.

    Raises:
      BadInput: a file that cannot be read, or in which names are missing or occur twice.
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
        raise errors.BadInput(f"{key}: expected a name a line, or a JSON list of names")
    names = tuple(name.strip() for name in names)
    if not all(names) or len(set(names)) < max(len(names), 2):
        twice = next((n for i, n in enumerate(names) if n in names[:i]), "")
        trouble = f"{twice!r} is there twice" if twice else "a line is empty, or there is only one"
        raise errors.BadInput(f"{key}: {trouble}: expected the names of two or more classes")
    return names


def data_dir(config: ConfigDict) -> Path | str | None:
    """Where TFDS datasets lie; None for TFDS's own rule."""
    return place(config.runtime.data_dir) if config.runtime.data_dir else None


def open_data(
    config: ConfigDict,
    dataset: str,
    split: str,
    *,
    classes: tuple[str, ...] = (),
    trained_on: str | None = None,
) -> Source:
    """Opens a split where it lies, or as a copy in `config.input.stage`.

    Args:
      split: in TFDS's notation, or "auto", which `split_to_measure` explains.
      classes: see `reading_of`.
      trained_on: the dataset that the model was trained on; by default `config.dataset`.

    Raises:
      BadInput: the training data cannot be copied; what else cannot is read where it lies.
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
    """Refuses a folder that has only some of a model's classes, where these are numbers."""
    layout = Layout.of(dataset.removeprefix("folder:"), classes)
    there = {name for place in layout.splits.values() for name in image_files.folders(place)}
    if missing := [name for name in classes if name not in there]:
        raise errors.BadInput(
            f"{dataset} has no folders {errors.shown(missing)}: the model's {len(classes):,} "
            f"classes are numbers without names, and those of {len(there):,} folders need not be "
            f"the same. If they are, make empty folders of the missing ones"
        )

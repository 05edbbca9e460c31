"""Reads `config.init_from`: its origin, its card, and its parameters for the config's model."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from mixer import errors, recognition
from mixer.checkpoint import reading
from mixer.checkpoint.model_card import ModelCard
from mixer.data import sources
from mixer.data.sources.label_kinds import VECTORS
from mixer.loading import card_of_folder, card_of_published
from mixer.models import registry
from mixer.runs.data import class_names, data_dir, reading_of, training_split
from mixer.runs.evaluations import evaluation_transform
from mixer.runs.model import image_size_of, model_fields, resolution
from mixer.training import losses
from mixer.weights import download, formats, pretrained, resize
from mixer.weights.located import locate
from mixer.weights.stored import is_file, read_stored

# Instead of a path: an untrained model, the default in training.
RANDOM = "random"


def init_step(config: ConfigDict) -> int | str | None:
    """`config.init_step`, see `parse_step`."""
    return parse_step(config.init_step, "init_step")


def parse_step(asked: str, key: str) -> int | str | None:
    """Reads the value of `config.<key>`: "best", a number, or None for the newest.

    Raises:
      BadInput: something else.
    """
    if asked in ("", "best"):
        return asked or None
    if not asked.isdigit():
        raise errors.BadInput(f"config.{key}={asked!r}: expected best, a number, or nothing")
    return int(asked)


def check_no_secret(path: str, key: str = "init_from") -> None:
    """Refuses a URL with a password, which config.json and messages would show.

    Args:
      key: the config key that has it.

    Raises:
      BadInput: the URL has a password, which the message omits.
    """
    if (shown := download.without_login(path)) != path:
        raise errors.BadInput(
            f"config.{key}={shown!r} was given with a user name and a password, which "
            f"config.json would keep: download the file and give its path, or leave them out"
        )


def upstream_of(config: ConfigDict) -> tuple[dict, dict | None]:
    """`upstream` for results.json, which describes `init_from`; and a workdir's checkpoint JSON."""
    check_no_secret(config.init_from)
    return origin_of(config.init_from, init_step(config))


def origin_of(path: str, step: int | str | None) -> tuple[dict, dict | None]:
    """Describes the weights at `path` for results.json; and a workdir's checkpoint JSON.

    Args:
      step: of a workdir: a number, "best", or None for the newest.
    """
    keys = ("model", "dataset", "epochs", "resolution", "device_days", "path", "sha256")
    located = locate(path)
    if located.is_file:
        known = {"path": path, "sha256": located.sha256 or formats.sha256(located.path)}
        if entry := located.entry:
            known |= {"model": path.partition(":")[0], "dataset": entry.dataset}
            known |= {"resolution": resolution(entry.image_size)}
        if folder := located.folder:
            known |= {"model": folder.model}
            known |= {"resolution": folder.image_size and resolution(folder.image_size)}
        return dict.fromkeys(keys) | known, None
    meta = reading.read_meta(path, step)
    card = ModelCard.from_json(meta["card"])
    known = {
        "model": card.model["name"],
        "dataset": card.dataset,
        "epochs": meta["epochs"],
        "resolution": resolution(card.image_size),
        "device_days": meta["device_days"],
        "path": path,
    }
    return dict.fromkeys(keys) | known, meta


def pretrained_size_of(config: ConfigDict) -> tuple[int, int] | None:
    """`config.pretrained_size`, checked; None if empty."""
    size = tuple(config.pretrained_size)
    if size and (len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size)):
        raise errors.BadInput(
            f"config.pretrained_size={size}: expected a pair (height, width) of pixels, as in "
            f"(224, 224)"
        )
    return size or None


def at_size(
    config: ConfigDict,
    model: nn.Module,
    image_size: tuple[int, int],
    head: str,
    classes: Sequence[str] | None = None,
) -> tuple[nn.Module, Callable[..., dict[str, Any]]]:
    """Adapts the model to `image_size`; returns it and a function that loads `config.init_from`.

    Without `init_from` the model is unchanged, and the function must not be called.

    Args:
      head: what to do with a stored head; see `load_pretrained`.
      classes: the model's class names; a stored head for other classes is not used.

    Raises:
      BadInput: nothing usable there, or the model cannot be adapted to that size.
    """
    path = config.init_from
    if path in ("", RANDOM):
        return model, pretrained.load_pretrained
    check_no_secret(path)
    method, given = config.resize_method, pretrained_size_of(config)
    at = init_step(config)
    load = functools.partial(
        telling_the_model(config)(pretrained.load_pretrained),
        path,
        model,
        image_size=image_size,
        pretrained_size=given,
        method=method,
        head=head,
        ema=config.init_ema,
        classes=classes,
    )
    if is_file(path):
        item = "ema" if config.init_ema else "params"
        with telling_the_model(config):
            made_for = read_stored(path, model, step=at, item=item).size(model, image_size, given)
    else:
        made_for = ModelCard.from_json(reading.read_meta(path, at)["card"]).image_size
    return resize.at_resolution(model, image_size, made_for, method), load


@contextlib.contextmanager
def telling_the_model(config: ConfigDict) -> Iterator[None]:
    """Adds to an error which registered model the file in `init_from` contains, if another."""
    try:
        yield
    except errors.BadInput as error:
        if other := _other_model(config.init_from, config.model.name):
            raise errors.BadInput(
                f"{config.init_from} contains a {other}, not the recipe's {config.model.name}: "
                f"give the recipe its name, --config=RECIPE:{other}"
            ) from None
        raise error


def _other_model(path: str, name: str) -> str:
    """The registered model in a local file, if it is not `name`; "" if it is, or is unknown."""
    file = Path(path).expanduser()
    if not file.is_file():
        return ""
    try:
        arrays, size = recognition.parameters(str(file), path), formats.image_size(str(file))
        found = recognition.recognise(arrays, size, path)
    except errors.BadInput:
        return ""
    return "" if found == registry.known_as(name) else found


def card_of_config(config: ConfigDict) -> ModelCard:
    """The card of `config.init_from` other than a workdir; a plain file gets one from the config.

    Raises:
      BadInput: nothing usable there.
    """
    located = None if config.init_from == RANDOM else locate(config.init_from)
    if located and located.entry:
        return _renamed(config, card_of_published(located.entry))
    if located and located.folder:
        size, pretrained_size = image_size_of(config), pretrained_size_of(config)
        card = card_of_folder(located.folder, size, pretrained_size)
        return _renamed(config, _completed(config, card))
    classes, about = _classes_of_data(config)
    return ModelCard(
        model=model_fields(config) | {"num_classes": len(classes)},
        image_size=image_size_of(config),
        transform=evaluation_transform(config),
        classes=classes,
        dataset="",  # a file does not record what it was trained on
        imports=config.imports,
        **about,
    )


def _classes_of_data(config: ConfigDict) -> tuple[tuple[str, ...], dict[str, bool]]:
    """The class names given, else the dataset's; and what a card says about the labels."""
    if names := class_names(config):
        return names, {}
    # These runs need no class names, so the dataset is not opened.
    if config.run in ("fewshot", "convert", "figures"):
        return (), {}
    dataset, split = config.dataset, training_split(config)
    if sources.is_in_place(dataset):  # it may have no training split
        split = sources.split_to_measure(dataset)
    source = sources.open_source(dataset, split, data_dir(config), reading_of(config, dataset))
    by = " of their names as text" if dataset.startswith("folder:") else ""
    print(
        f"{config.init_from} records no class names: using those of {dataset}, in order{by}: "
        f"{errors.shown(source.classes)}; config.input.class_names=FILE gives others",
        flush=True,
    )
    kind = sources.label_kinds.of(source).kind
    # Other vectors can be learnt by several losses.
    regression = kind == "values" or (kind in VECTORS and config.loss == losses.REGRESSION)
    several = kind in ("classes", "probabilities") and not regression
    return tuple(source.classes), {"multi_label": several, "regression": regression}


def _renamed(config: ConfigDict, card: ModelCard) -> ModelCard:
    """The card with the class names of `config.input.class_names`, if given."""
    names, outputs = class_names(config), card.model["num_classes"]
    if names and len(names) != outputs:
        raise errors.BadInput(
            f"config.input.class_names={config.input.class_names} has {len(names):,} names, but "
            f"{config.init_from} has {outputs:,} outputs: expected a name for each"
        )
    return dataclasses.replace(card, classes=names) if names else card


def _completed(config: ConfigDict, card: ModelCard) -> ModelCard:
    """Fills in from the config what a Hub folder does not record, and prints that."""
    if len(card.classes) != card.model["num_classes"]:
        classes, about = _classes_of_data(config)
        fields = card.model | {"num_classes": len(classes) or card.model["num_classes"]}
        card = dataclasses.replace(card, model=fields, classes=classes, **about)
    if not card.transform:
        print(f"{config.init_from} does not record how images are resized: using the config's way")
        card = dataclasses.replace(card, transform=evaluation_transform(config))
    return card

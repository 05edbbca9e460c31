"""`mixer.load`: loads a trained model, ready to use: the Module, its parameters and its card.

It connects the rooms models, data, checkpoint and weights: it makes a card for a published name, a
folder of the Hugging Face Hub or a plain file, for Python and for the runs.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Callable
from os import PathLike
from typing import Any

from flax import linen as nn

from mixer import errors
from mixer.checkpoint import reading
from mixer.checkpoint.model_card import LoadedCard, ModelCard
from mixer.checkpoint.reading import again_if_gone
from mixer.data import transforms
from mixer.models import registry
from mixer.recognition import parameters, recognise
from mixer.weights import channels, class_names, download, formats, pretrained, resize, zoo
from mixer.weights.formats import hub_folder, names
from mixer.weights.located import Located, locate
from mixer.weights.stored import Stored, read_stored

_SIZE = (224, 224)  # if no other resolution is recorded


@again_if_gone
def load(
    path: str | PathLike,
    *,
    model: str | None = None,
    step: int | str | None = None,
    ema: bool = False,
    pretrained_size: int | tuple[int, int] | None = None,
) -> tuple[nn.Module, dict[str, Any], LoadedCard]:
    """Loads a trained model with everything needed to use it.

    `model.apply({"params": params}, mixer.preprocess(files, card))` returns its logits, float32
    [N, num_classes], in the order of `card.class_names`, at the resolution of its training. If
    `card.regression`, they are numbers with these names.

    Args:
      path: a workdir of this project, a name from `mixer.list_pretrained`, a folder of the Hugging
        Face Hub, a file of weights (.npz, .safetensors) or its address: whatever
        `mixer.load_pretrained` takes.
      model: only for a plain file, which does not name its model: a registered name. Its sizes are
        taken from the arrays. By default, the registered model whose arrays the file contains. A
        plain file records neither class names (classes are numbered) nor preprocessing: a line says
        what is assumed. The form of GELU is what `save_pretrained` recorded; otherwise the exact
        one for a .safetensors file (as in timm) and the model's own for an .npz file.
      step: only for a workdir: a number, or "best" by the run's `config.best`; by default the
        newest.
      ema: only for a workdir of a run with `config.ema_decay`: load the averaged parameters.
      pretrained_size: only for a file or folder that does not record it: resolution of its training
        in pixels, (height, width) or one number. By default 224 if the number of patches fits or
        does not matter, else the square that fits.

    Returns:
      The flax Module; its parameters, a nested dict of float32 JAX arrays; and the card:
      `class_names`, and `names` to read; `transform`, `image_size` and `decoding`, which
      `mixer.preprocess` uses; `model`, `dataset` and `multi_label`; and its origin: `path`, `step`,
      `sha256`.

    Raises:
      BadInput: nothing usable at `path`; a `model` or size although the path records its own; a
        file that fits no registered model, or several; a workdir whose `config.imports` are not
        imported yet.
      Failure: it cannot be downloaded because there is no connection.
    """
    module, card, params = find(
        path, model=model, step=step, ema=ema, pretrained_size=pretrained_size
    )
    return module, params(), card


def find(
    path: str | PathLike,
    *,
    model: str | None = None,
    step: int | str | None = None,
    ema: bool = False,
    pretrained_size: int | tuple[int, int] | None = None,
) -> tuple[nn.Module, LoadedCard, Callable[..., dict[str, Any]]]:
    """Like `load`, but the parameters are not loaded yet.

    Returns:
      The Module; its card; and a function that loads the parameters, and takes those arguments of
      `load_pretrained` that are about another image size or other classes.
    """
    path, sha256, found = os.fspath(path), None, None
    size = None if pretrained_size is None else resize.pair(pretrained_size)
    located = locate(path)
    if located.is_file:
        card = _card_of(path, located, model, size)
        sha256 = located.sha256 or formats.sha256(located.path)
    else:
        meta = reading.read_meta(path, step)
        card, found = ModelCard.from_json(meta["card"]), meta["step"]
        _check_imported(card.imports, path)
    if model and (not located.is_file or located.entry or located.folder):
        raise errors.BadInput(
            f"model={model!r}: {path} records that it is a {card.model['name']}; leave it out"
        )
    if size and size != card.image_size:
        raise errors.BadInput(
            f"pretrained_size={size}: {path} records that it is for {card.image_size}; leave it out"
        )
    module = registry.create_model(**card.model)
    params = functools.partial(
        pretrained.load_pretrained,
        path,
        module,
        step=step if found is None else found,
        head="keep",
        ema=ema,
    )
    shown = download.without_login(path)
    names = class_names.readable(card.classes, card.dataset)
    loaded = LoadedCard(**vars(card), path=shown, step=found, sha256=sha256, names=names)
    return module, loaded, params


def _card_of(
    path: str, located: Located, model: str | None, size: tuple[int, int] | None
) -> ModelCard:
    if located.entry:
        return card_of_published(located.entry)
    if located.folder is None:
        return _card_of_file(path, located, model, size)
    card = card_of_folder(located.folder, size or _SIZE, size)
    classes = card.classes or _numbers(card.model["num_classes"])
    transform = card.transform or _transform(card.image_size)
    if (classes, transform) != (card.classes, card.transform):
        print(
            f"{path} does not record everything: assuming classes "
            f"{errors.shown(classes) or 'none'}; preprocessing {transform}",
            flush=True,
        )
    return dataclasses.replace(card, classes=classes, transform=transform)


def _check_imported(modules: str, path: str) -> None:
    """Refuses a workdir whose modules the user has not imported, as importing runs their code."""
    needed = [name.strip() for name in modules.split(",") if name.strip()]
    if missing := [name for name in needed if name not in sys.modules]:
        raise errors.BadInput(
            f"the model of the run at {path} needs the modules {', '.join(missing)}. Importing "
            f"them runs their code: first import {', '.join(missing)} if you trust them"
        )


def card_of_published(entry: zoo.Published) -> ModelCard:
    """The card of a published file: its model, preprocessing and classes."""
    named = {"num_classes": entry.classes, "patch_size": entry.patch_size, "gelu": entry.gelu}
    return ModelCard(
        model={"name": entry.model} | registry.model_fields(entry.model) | named,
        image_size=entry.image_size,
        transform=entry.transform,
        classes=entry.class_names or _numbers(entry.classes),
        dataset=entry.dataset,
    )


def card_of_folder(
    folder: hub_folder.Folder,
    image_size: tuple[int, int],
    pretrained_size: tuple[int, int] | None = None,
) -> ModelCard:
    """The card of a folder of the Hub: its model, preprocessing and classes.

    If the folder does not record them, `transform` is "" and `classes` is (). Prints a line if the
    number of class names is not the number of outputs.

    Args:
      image_size, pretrained_size: used to find the grid of patches if it is not recorded; see
        `Stored.size`.
    """
    stored = read_stored(folder.name, registry.create_model(folder.model, 0))
    fields = _fields(folder.model, stored, folder.name)
    classes, outputs = folder.class_names, fields["num_classes"]
    if len(classes) != outputs and classes:
        print(f"{folder.name}: {len(classes)} label_names for {outputs} outputs: not used")
    fields |= {"gelu": folder.gelu} if "gelu" in fields else {}
    fields |= {"pooling": folder.pooling} if folder.pooling and "pooling" in fields else {}
    return ModelCard(
        model=fields,
        image_size=_size(stored, fields, image_size, pretrained_size),
        transform=folder.transform,
        classes=classes if len(classes) == outputs else (),
        dataset="",
        decoding=folder.decoding,
        multi_label=folder.multi_label,
    )


def _card_of_file(
    path: str, located: Located, model: str | None, asked: tuple[int, int] | None
) -> ModelCard:
    """The card of a plain file, inferred from its arrays; prints what it assumes."""
    shown = download.without_login(path)
    flat, recorded = parameters(located.path, shown), formats.image_size(located.path)
    if model is None:
        model = recognise(flat, recorded, shown)
    found, _ = names.to_ours(flat, shown, registry.create_model(model, 0))
    stored = Stored(found, recorded, shown)
    fields, said = _fields(model, stored, shown), ""
    if "gelu" in fields:
        timms = located.path.lower().endswith(".safetensors")
        form = formats.gelu(located.path) or ("erf" if timms else fields["gelu"])
        fields, said = fields | {"gelu": form}, f", gelu={form!r}"
    size = _size(stored, fields, asked or _SIZE, asked)
    classes, transform = _numbers(fields["num_classes"]), _transform(size)
    outputs = f"{len(classes):,} classes without names" if classes else "features, without a head"
    print(
        f"{shown}: taken for a {model} of {size[0]} x {size[1]} pixels{said}; {outputs}; "
        f"preprocessing {transform}",
        flush=True,
    )
    return ModelCard(
        model=fields, image_size=size, transform=transform, classes=classes, dataset=""
    )


def _fields(name: str, stored: Stored, source: str) -> dict[str, Any]:
    """The fields of the registered model, with its name and with the sizes of the arrays."""
    fields = registry.model_fields(name)
    sizes = stored.sizes(registry.create_model(name, 0)) | channels.of(stored.arrays)
    if changed := {field: size for field, size in sizes.items() if fields[field] != size}:
        listed = ", ".join(f"{field}={size}" for field, size in changed.items())
        print(f"{source}: a {name} with {listed}, by the shapes of its arrays")
    head = stored.arrays.get("head/bias")
    outputs = 0 if head is None else head.size
    return {"name": name} | fields | sizes | {"num_classes": outputs}


def _size(
    stored: Stored,
    fields: dict[str, Any],
    image_size: tuple[int, int],
    pretrained_size: tuple[int, int] | None = None,
) -> tuple[int, int]:
    model = registry.create_model(**fields)
    patch = getattr(model, "patch_size", 1)
    if any(side % patch for side in image_size):  # it does not fit this model: use the square
        image_size = (patch, patch)
    return stored.size(model, image_size, pretrained_size)


def _numbers(classes: int) -> tuple[str, ...]:
    """Names for classes without names."""
    return tuple(map(str, range(classes)))


def _transform(size: tuple[int, int]) -> str:
    """The paper's evaluation transform, used if no other is recorded.

    At a resolution that is not square it only resizes, as a crop would not fit into every image.
    """
    if size[0] != size[1]:
        return "resize"
    return f"resize_small({transforms.before_crop(min(size))})|central_crop"

"""Exports parameters to a file (published `.npz` or timm's `.safetensors`) or to a Hub folder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mixer import errors, storage
from mixer.checkpoint.model_card import ModelCard
from mixer.weights import fitting, formats, resize
from mixer.weights.formats import hub_folder, hub_page, names
from mixer.weights.stored import Stored


def save_pretrained(
    path: str | os.PathLike[str],
    params: dict[str, Any],
    model,
    image_size: int | tuple[int, int] | None = None,
) -> None:
    """Writes the parameters of a model of any family but HaloNet to `path`.

    Args:
      path: the file. One ending in .npz gets the names and shapes of the family's published files
        (for a Mixer, and if only timm's are known, those of the tree itself); one ending in
        .safetensors gets timm's names and axis order, as float32. It appears complete or not at
        all.
      params: nested dict of arrays that `model` can use.
      model: the Module that they are for; names and shapes are checked.
      image_size: pixels (height, width), or one number, that they are for, which tells
        `load_pretrained` their grid. A .safetensors file records it and the model's form of GELU;
        an .npz file cannot.

    Raises:
      BadInput: see `arranged`; or `path` cannot be written.
    """
    arrays = arranged(path, params, model, image_size)
    size = resize.pair(image_size) if image_size else None
    formats.write(path, arrays, size, getattr(model, "gelu", None))


def arranged(
    path: str | os.PathLike[str],
    params: dict[str, Any],
    model,
    image_size: int | tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays by name that `save_pretrained` writes; takes the same arguments.

    Raises:
      BadInput: the ending or the family is not supported, names or shapes are not the model's, such
        a file has no name for an array, or numbers are not finite.
    """
    ending = formats.ending(path)
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    flat = {name: np.asarray(flat[name], np.float32) for name in names.in_order(flat)}
    size = resize.pair(image_size) if image_size else Stored(flat, None, "params").some_size(model)
    wanted = fitting.shapes(model, size)
    fitting.compare(flat, traverse_util.flatten_dict(wanted, sep="/"), "params")
    return names.to_theirs(flat, model, timm=ending == ".safetensors")


def save_folder(
    path: str,
    params: dict[str, Any],
    model,
    card: ModelCard,
    *,
    repo: str = "",
    license: str = "",
    measured: Mapping[str, float] = {},
) -> None:
    """Writes model.safetensors, config.json and README.md to a new folder.

    Args:
      path: the folder; it appears complete or not at all.
      params: nested dict of arrays that `model` can use.
      model: the Module that they are for.
      card: image size, preprocessing, classes and dataset of the training run.
      repo, license, measured: for README.md, see `hub_page.readme`.

    Raises:
      BadInput: the folder exists or cannot be written, timm has no architecture of these sizes, or
        the parameters are not the model's.
    """
    folder = Path(path).expanduser()
    config = hub_page.describe(model, card)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with storage.write_whole_folder(folder) as new:
            weights = new / hub_folder.WEIGHTS
            save_pretrained(weights, params, model, card.image_size)
            (new / hub_folder.CONFIG).write_text(json.dumps(config, indent=2) + "\n")
            page = hub_page.readme(
                folder.name, model, card, config, repo=repo, license=license, measured=measured
            )
            (new / "README.md").write_text(page)
    except OSError as error:
        raise errors.BadInput(f"{str(path)!r} cannot be written: {error}") from None

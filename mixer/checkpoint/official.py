"""Parameters in a file for others: `.npz` as published, timm's `.safetensors`."""

import re
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mixer.checkpoint import fitting, formats, resize
from mixer.checkpoint.formats import names
from mixer.checkpoint.stored import Stored

_SIZE, _GELU = "image_size", "gelu"


def save_pretrained(
    path: str, params: dict[str, Any], model, image_size: int | tuple[int, int] | None = None
) -> None:
    """Writes the parameters of a model of any family but HaloNet to `path`.

    Args:
      path: the file. One ending in .npz has the names and shapes of the family's published files
        (the tree's own, of a Mixer and where only timm's are known); one in .safetensors timm's
        names and axis order, as float32. It appears complete or not at all.
      params: nested dict of arrays that `model` can use.
      model: the Module that they are for, checked against them.
      image_size: pixels (height, width), or one number, that they are for; `load_pretrained` then
        knows their grid. A .safetensors file keeps it, and the model's form of GELU; an .npz file
        has no place for them.

    Raises:
      BadInput: what `arranged` refuses, or a place that cannot be written.
    """
    formats.write(path, *arranged(path, params, model, image_size))


def arranged(
    path: str, params: dict[str, Any], model, image_size: int | tuple[int, int] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What `save_pretrained` writes, with the same arguments: arrays by name, and words on them.

    Raises:
      BadInput: another ending, another family, other names or shapes than the model's, names that
        such a file has no place for, or numbers that are not finite.
    """
    ending = formats.ending(path)
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    flat = {name: np.asarray(flat[name], np.float32) for name in names.in_order(flat)}
    size = resize.pair(image_size) if image_size else Stored(flat, None, "params").some_size(model)
    wanted = fitting.shapes(model, size)
    fitting.compare(flat, traverse_util.flatten_dict(wanted, sep="/"), "params")
    about = {_SIZE: "{} x {}".format(*size)} if image_size else {}
    about |= {_GELU: model.gelu} if hasattr(model, "gelu") else {}
    return names.to_theirs(flat, model, timm=ending == ".safetensors"), about


def image_size(path: str) -> tuple[int, int] | None:
    """(height, width) that `save_pretrained` has recorded in a file; None if there is no record."""
    match = re.fullmatch(r"([1-9]\d*) x ([1-9]\d*)", formats.metadata(path).get(_SIZE, ""))
    return match and (int(match[1]), int(match[2]))


def gelu(path: str) -> str | None:
    """The form of GELU that `save_pretrained` has recorded in a file; None without a record."""
    return formats.metadata(path).get(_GELU)

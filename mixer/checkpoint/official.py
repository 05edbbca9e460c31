"""Parameters in a file for others: `.npz` as published, timm's `.safetensors`."""

from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mixer.checkpoint import adapt, arrays, names
from mixer.checkpoint.stored import Stored


def save_pretrained(path: str, params: dict[str, Any], model) -> None:
    """Writes the parameters of a model of any family but HaloNet to `path`.

    Args:
      path: the file. One ending in .npz has the names and shapes of the family's published files
        (the tree's own, of a Mixer and where only timm's are known); one in .safetensors timm's
        names and axis order, as float32. It appears complete or not at all.
      params: nested dict of arrays that `model` can use.
      model: the Module that they are for, checked against them.

    Raises:
      BadInput: another ending, another family, other names or shapes than the model's, or numbers
        that are not finite.
    """
    ending = arrays.ending(path)
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    flat = {name: np.asarray(flat[name], np.float32) for name in names.in_order(flat)}
    wanted = adapt.shapes(model, Stored(flat, None, "params").some_size(model))
    adapt.compare(flat, traverse_util.flatten_dict(wanted, sep="/"), "params")
    arrays.write(path, names.to_theirs(flat, model, timm=ending == ".safetensors"))

"""Parameters in a file for others: the paper's `.npz`, timm's `.safetensors`."""

from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mixer.checkpoint import adapt, arrays, names
from mixer.checkpoint.stored import Stored


def save_pretrained(path: str, params: dict[str, Any], model) -> None:
    """Writes a Mixer's parameters to `path`.

    Args:
      path: the file. One ending in .npz has the names of the paper's release, which are the
        tree's own; one in .safetensors timm's names and axis order, as float32. It appears
        complete or not at all.
      params: nested dict of arrays that `model` can use.
      model: the Module that they are for, checked against them.

    Raises:
      BadInput: another ending, no Mixer, other names or shapes than the model's, or numbers that
        are not finite.
    """
    ending = arrays.ending(path)
    flat = traverse_util.flatten_dict(jax.device_get(params), sep="/")
    flat = {name: np.asarray(flat[name], np.float32) for name in names.in_order(flat)}
    count = Stored(flat, None, "params").patches(model)
    wanted = adapt.shapes(model, (model.patch_size, model.patch_size * count))
    adapt.compare(flat, traverse_util.flatten_dict(wanted, sep="/"), "params")
    arrays.write(path, flat if ending == ".npz" else names.to_timm(flat))

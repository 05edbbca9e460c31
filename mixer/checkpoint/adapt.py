"""Fits stored parameters to a model: every name and every shape accounted for."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from mixer import errors

HEADS = ("auto", "keep", "reset")


def fit(
    stored: dict[str, Any],
    expected: dict[str, Any],
    *,
    head: str,
    head_bias_init: float,
    source: str,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Returns `stored` in the shape of `expected`, the head kept, reset or dropped.

    Args:
      stored: nested dict of arrays.
      expected: nested dict of anything with a shape, as the model would initialise them; without
        "head" the stored head is dropped.
      head: "auto" keeps a head of the right shape, else resets it and says so; "keep" refuses
        another shape; "reset" makes kernel 0 and bias `head_bias_init`.
      source: where `stored` comes from, for the messages.

    Raises:
      BadInput: names or shapes differ: all are listed.
    """
    if head not in HEADS:
        raise errors.unknown("value of head", head, HEADS)
    flat = traverse_util.flatten_dict(stored, sep="/")
    wanted = traverse_util.flatten_dict(expected, sep="/")
    head_names = [name for name in wanted if name.startswith("head/")]
    fits = all(name in flat and flat[name].shape == wanted[name].shape for name in head_names)
    if head_names and (head == "reset" or (head == "auto" and not fits)):
        if head == "auto":
            classes = wanted["head/bias"].shape[0]
            had = f"has {flat['head/bias'].shape[0]} classes" if "head/bias" in flat else "has none"
            report(f"{source}: its head {had}; a new one for {classes} classes begins at zero")
        flat["head/kernel"] = np.zeros(wanted["head/kernel"].shape, np.float32)
        flat["head/bias"] = np.full(wanted["head/bias"].shape, head_bias_init, np.float32)
    if not head_names:
        flat = {name: value for name, value in flat.items() if not name.startswith("head/")}
    problems = [f"missing in the file: {name}" for name in wanted if name not in flat]
    problems += [f"not in the model: {name}" for name in flat if name not in wanted]
    problems += [
        f"{name}: {flat[name].shape} in the file, {wanted[name].shape} in the model"
        for name in wanted
        if name in flat and flat[name].shape != wanted[name].shape
    ]
    if problems:
        listed = "\n  ".join(problems[:20])
        more = f"\n  and {len(problems) - 20} more" if len(problems) > 20 else ""
        raise errors.BadInput(f"the parameters of {source} do not fit the model:\n  {listed}{more}")
    return traverse_util.unflatten_dict({name: flat[name] for name in wanted}, sep="/")


def shapes(model, image_size: tuple[int, int]) -> dict[str, Any]:
    """The parameters' shapes as the model initialises them for this image size."""
    images = jax.ShapeDtypeStruct((1, *image_size, 3), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]


def image_size(stored: dict[str, Any], wanted: tuple[int, int] | None) -> tuple[int, int]:
    """The image size of parameters without a record of it: `wanted` if it has as many tokens as
    they were made for, else the square.

    Raises:
      BadInput: no Mixer's parameters, or a token count that is no square.
    """
    try:
        patch = stored["stem"]["kernel"].shape[0]
        tokens = stored["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"].shape[0]
    except (KeyError, TypeError, AttributeError):
        raise errors.BadInput(
            f"expected a Mixer's parameters (stem, MixerBlock_0, ...), found {sorted(stored)[:5]}"
        ) from None
    if wanted is not None and (wanted[0] // patch) * (wanted[1] // patch) == tokens:
        return tuple(wanted)
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise errors.BadInput(
            f"{tokens} tokens are no square grid: give image_size=(height, width)"
        )
    return side * patch, side * patch

"""Weights for RGB in models of other images, as timm adapts them (its `adapt_input_conv`)."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import traverse_util

RGB = 3
_STEMS = ("stem/kernel", "stem_0/kernel", "conv_root/kernel")


def are_rgb(arrays: dict[str, np.ndarray], wanted: dict[str, Any]) -> bool:
    """Whether the arrays, by name, differ from those of the model in being for RGB.

    Args:
      wanted: nested dict of anything with a shape, as the model initialises them.
    """
    flat = traverse_util.flatten_dict(wanted, sep="/")
    return any(_is_stem(arrays[name], flat[name]) for name in flat.keys() & arrays.keys())


def from_rgb(
    params: dict[str, Any],
    wanted: dict[str, Any],
    source: str,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The parameters with a stem for other images, nested dict of float32 arrays; says so.

    For grey images, the sum over the three channels gives what equal channels gave. For C channels,
    the three are repeated and scaled by 3 / C, so that the outputs stay as large.

    Args:
      params: of the model for RGB.
      wanted: of the model for C channels.
      source: where they come from, for the message.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    for name, like in traverse_util.flatten_dict(wanted, sep="/").items():
        if not _is_stem(flat[name], like):
            continue
        kernel, count = np.asarray(flat[name]), like.shape[2]
        if count == 1:
            flat[name] = kernel.sum(axis=2, keepdims=True)
            how = "summed over the three for grey images"
        else:
            repeated = np.tile(kernel, (1, 1, math.ceil(count / RGB), 1))[:, :, :count]
            flat[name] = repeated * np.float32(RGB / count)
            how = f"repeated for {count} channels and scaled by 3/{count}"
        report(f"{source}: {name} is for RGB; its channels are {how}")
    return traverse_util.unflatten_dict(flat, sep="/")


def of(arrays: dict[str, np.ndarray]) -> dict[str, int]:
    """{"in_chans": C} if the stem of one of our families is not for RGB; else {}."""
    kernel = next((arrays[name] for name in _STEMS if name in arrays), None)
    if kernel is None or kernel.ndim != 4 or kernel.shape[2] == RGB:
        return {}
    return {"in_chans": kernel.shape[2]}


def _is_stem(kernel: Any, like: Any) -> bool:
    """Whether a convolution's kernel [h, w, 3, F] fits `like` but for its input channels."""
    has, needs = kernel.shape, like.shape
    return (
        len(has) == len(needs) == 4
        and has[2] == RGB != needs[2]
        and has[:2] + has[3:] == needs[:2] + needs[3:]
    )

"""What a model refuses: what are no images, and images of another grid than its parameters are for.

This is found when the model is traced, before anything is compiled.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def checks_images(call: Callable) -> Callable:
    """A model's `__call__(images, train)`, made to look at the images first.

    They are [N, H, W, 3], floating point. Where the model has a `patch_size` it divides H and W,
    and the parameters, if there are any yet, were made for as many patches.

    Raises:
      ValueError: from the call: names what there is, what is expected, and the way out.
    """

    @functools.wraps(call)
    def checked(model, images, *args, **kwargs):
        _check_images(images)
        if hasattr(model, "patch_size"):
            _check_size(images.shape[1:3], model.patch_size)
            if "params" in model.variables:
                _check_grid(images.shape[1:3], model, model.variables["params"])
        return call(model, images, *args, **kwargs)

    return checked


def _check_images(images: jax.Array) -> None:
    shape = images.shape
    if images.ndim != 4 or shape[3] != 3:
        turned = images.ndim == 4 and shape[1] == 3
        mend = ": the channels come last, images.transpose(0, 2, 3, 1)" if turned else ""
        raise ValueError(f"images have shape {shape}: expected [N, H, W, 3]{mend}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are of dtype {images.dtype}: expected floating-point numbers in [-1, 1]; of "
            f"pixels from 0 to 255 images / 127.5 - 1 makes them"
        )


def _check_size(size: tuple[int, int], patch_size: int) -> None:
    height, width = size
    if height % patch_size or width % patch_size:
        near = (max(1, round(side / patch_size)) * patch_size for side in size)
        raise ValueError(
            f"image size {height} x {width} is not divisible by patch_size {patch_size}: the "
            f"nearest that is, is {' x '.join(map(str, near))}"
        )


def _check_grid(size: tuple[int, int], model: nn.Module, params: Any) -> None:
    patch_size, stored_patch = model.patch_size, params["stem"]["kernel"].shape[0]
    if stored_patch != patch_size:
        raise ValueError(
            f"the parameters were made for patch_size {stored_patch}, the model has {patch_size}: "
            f"give it theirs, or them its own by mixer.with_patch_size(params, {patch_size})"
        )
    height, width = size
    rows, columns, stored = height // patch_size, width // patch_size, _tokens(model, params)
    if stored != rows * columns:
        side = math.isqrt(stored)
        made_for = f"{stored} tokens"
        if side * side == stored:
            pixels = side * patch_size
            made_for += f" (a {side} x {side} grid: {pixels} x {pixels} pixels, if square)"
        raise ValueError(
            f"the parameters were made for {made_for}; images of {height} x {width} with "
            f"patch_size {patch_size} are a {rows} x {columns} grid "
            f"of {rows * columns} tokens. Resize the images, or load the parameters for this size "
            f"with mixer.load_pretrained(..., image_size=({height}, {width})), for the model "
            f"mixer.at_resolution(...)"
        )


def _tokens(model: nn.Module, params: Any) -> int:
    """For how many tokens parameters were made: what knows of places is the table of positions, or
    the token mixing; that of the first block, where later ones have fewer tokens.

    Raises:
      ValueError: they are for a model that is wider, or less wide, for another resolution.
    """
    if "pos_embedding" in params:
        return params["pos_embedding"].shape[1] - ("cls" in params)
    block = next(name for name in params if name.endswith("Block_0") and "Stage" not in name)
    mixing = params[block]["token_mixing"]
    tokens, width = mixing.get("Dense_0", mixing)["kernel"].shape[-2:]
    if "Dense_0" in mixing and width != model.tokens_mlp_dim:
        raise ValueError(
            f"the parameters have token-mixing MLPs of {width} units, the model has "
            f"tokens_mlp_dim={model.tokens_mlp_dim}: parameters for another resolution are for the "
            f"model mixer.at_resolution(model, image_size, pretrained_size)"
        )
    return tokens // getattr(model, "groups", 1)

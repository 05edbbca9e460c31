"""Checks a model's input: shape and dtype of the images, and that their grid fits the parameters.

The checks run when the model is traced, before anything is compiled.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


class ImageModel(nn.Module, kw_only=True):
    """A model of images [N, H, W, in_chans]; what all families share."""

    in_chans: int = 3


def checks_images(call: Callable) -> Callable:
    """Decorates a model's `__call__(images, train)` to check the images first.

    They must be [N, H, W, in_chans], floating point. If the model has a `patch_size`, it must
    divide H and W, and the parameters, if they exist already, must be for that number of patches.

    Raises:
      ValueError: from the call; the message has what was found, what was expected and how to fix
        it.
    """

    @functools.wraps(call)
    def checked(model, images, *args, **kwargs):
        _check_images(images, model.in_chans)
        if hasattr(model, "patch_size"):
            _check_size(images.shape[1:3], model.patch_size)
            if "params" in model.variables:
                _check_grid(images.shape[1:3], model, model.variables["params"])
        return call(model, images, *args, **kwargs)

    return checked


def _check_images(images: jax.Array, channels: int) -> None:
    shape = images.shape
    if images.ndim != 4 or shape[3] != channels:
        turned = images.ndim == 4 and shape[1] == channels
        fix = ": put the channels last with images.transpose(0, 2, 3, 1)" if turned else ""
        raise ValueError(f"images have shape {shape}: expected [N, H, W, {channels}]{fix}")
    if not shape[0]:
        raise ValueError(f"images have shape {shape}: expected one image or more")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images are of dtype {images.dtype}: expected floating-point numbers in [-1, 1]; "
            f"convert pixels from 0 to 255 with images / 127.5 - 1"
        )


def _check_size(size: tuple[int, int], patch_size: int) -> None:
    height, width = size
    if height % patch_size or width % patch_size:
        near = (max(1, round(side / patch_size)) * patch_size for side in size)
        raise ValueError(
            f"image size {height} x {width} is not divisible by patch_size {patch_size}: the "
            f"nearest divisible size is {' x '.join(map(str, near))}"
        )


def _check_grid(size: tuple[int, int], model: nn.Module, params: Any) -> None:
    patch_size, stored_patch = model.patch_size, params["stem"]["kernel"].shape[0]
    if stored_patch != patch_size:
        raise ValueError(
            f"the parameters were made for patch_size {stored_patch}, the model has {patch_size}: "
            f"use their patch_size, or convert them with "
            f"mixer.with_patch_size(params, {patch_size})"
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
            f"with mixer.load_pretrained(..., image_size=({height}, {width})) and use the model "
            f"that mixer.at_resolution(...) returns"
        )


def _tokens(model: nn.Module, params: Any) -> int:
    """The number of tokens that parameters are for, by the position embeddings or token mixing.

    It is that of the first block if later blocks have fewer tokens.

    Raises:
      ValueError: their token-mixing width is that of another resolution.
    """
    if "pos_embedding" in params:
        return params["pos_embedding"].shape[1] - ("cls" in params)
    block = next(name for name in params if name.endswith("Block_0") and "Stage" not in name)
    mixing = params[block]["token_mixing"]
    tokens, width = mixing.get("Dense_0", mixing)["kernel"].shape[-2:]
    if "Dense_0" in mixing and width != model.tokens_mlp_dim:
        raise ValueError(
            f"the parameters have token-mixing MLPs of {width} units, the model has "
            f"tokens_mlp_dim={model.tokens_mlp_dim}: for parameters of another resolution use the "
            f"model that mixer.at_resolution(model, image_size, pretrained_size) returns"
        )
    return tokens // getattr(model, "groups", 1)

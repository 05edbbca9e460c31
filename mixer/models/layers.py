"""Pieces that model families share: stem, MLP, head, regularisers, the check of the grid.

Randomness is drawn from an explicit key, folded with the place where it is used, never from
Flax's per-module streams: so a scan over blocks or rematerialisation leaves every mask as it was.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

# Of ImageNet's pixels in [0, 1], by channel.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def gelu(x: jax.Array, form: str) -> jax.Array:
    """GELU by its tanh approximation (`form="tanh"`, the released Mixers) or exactly ("erf").

    Raises:
      ValueError: another form.
    """
    if form not in ("tanh", "erf"):
        raise ValueError(f"gelu={form!r}: expected 'tanh' or 'erf'")
    return jax.nn.gelu(x, approximate=form == "tanh")


class MlpBlock(nn.Module):
    """[..., D] -> hidden_dim -> [..., out_dim], GELU between; out_dim=0 is D."""

    hidden_dim: int
    dropout: float
    gelu: str
    dtype: str
    kernel_init: Callable = nn.linear.default_kernel_init
    bias_init: Callable = nn.initializers.zeros
    out_dim: int = 0

    @nn.compact
    def __call__(self, x, key=None):
        init = {"kernel_init": self.kernel_init, "bias_init": self.bias_init}
        y = nn.Dense(self.hidden_dim, dtype=self.dtype, **init)(x)
        y = dropout(gelu(y, self.gelu), self.dropout, key, 0)
        y = nn.Dense(self.out_dim or x.shape[-1], dtype=self.dtype, **init)(y)
        return dropout(y, self.dropout, key, 1)


class LayerScale(nn.Module):
    """A learned factor for each channel, `init` at first (Touvron et al. 2021, CaiT)."""

    init: float

    @nn.compact
    def __call__(self, x):
        gamma = self.param("gamma", nn.initializers.constant(self.init), x.shape[-1:])
        return x * gamma.astype(x.dtype)


def patch_stem(
    model: nn.Module,
    images: jax.Array,
    tokens: Callable[[Any], int],
    kernel_init: Callable = nn.linear.default_kernel_init,
) -> jax.Array:
    """Images [N, H, W, 3] -> each patch projected, in raster order: [N, S, C].

    Args:
      model: in whose compact call this is; it has patch_size P, hidden_dim C and dtype.
      tokens: the model's parameters -> for how many patches they were made.

    Raises:
      ValueError: as `check_grid`.
    """
    check_grid(images, model.patch_size, model.variables.get("params"), tokens)
    patch, init = (model.patch_size,) * 2, {"kernel_init": kernel_init}
    x = nn.Conv(model.hidden_dim, patch, patch, dtype=model.dtype, name="stem", **init)(images)
    return x.reshape(len(x), -1, model.hidden_dim)


def normalized(images: jax.Array, form: str) -> jax.Array:
    """Images [N, H, W, 3] in [-1, 1] as the model's authors have them.

    "imagenet": less the mean of ImageNet's pixels, divided by their deviation; "none": as they are.

    Raises:
      ValueError: another form, or as `check_images`.
    """
    check_images(images)
    if form == "none":
        return images
    if form != "imagenet":
        raise ValueError(f"normalization={form!r}: expected 'imagenet' or 'none'")
    return (images * 0.5 + (0.5 - _MEAN)) / _DEVIATION


def stages(model: nn.Module, *fields: str) -> list[tuple]:
    """Of each stage, as many as model.num_blocks has numbers: its blocks, its entry of each field.

    Raises:
      ValueError: a field that has fewer.
    """
    count = len(model.num_blocks)
    for field in fields:
        if len(getattr(model, field)) < count:
            raise ValueError(
                f"{field}={getattr(model, field)}: expected {count} numbers, one for each stage of "
                f"num_blocks={model.num_blocks}"
            )
    return list(zip(model.num_blocks, *(getattr(model, f)[:count] for f in fields), strict=True))


def head(
    model: nn.Module, x: jax.Array, kernel_init: Callable = nn.initializers.zeros
) -> jax.Array:
    """The end of a `model`, in its compact call: features [N, C] -> logits, both float32.

    The features are sown as `pre_logits`, and returned where `model.num_classes` is 0.
    """
    x = x.astype(jnp.float32)
    model.sow("intermediates", "pre_logits", x)
    if model.num_classes == 0:
        return x
    bias_init = nn.initializers.constant(model.head_bias_init)
    return nn.Dense(model.num_classes, kernel_init=kernel_init, bias_init=bias_init, name="head")(x)


def dropout_key(model: nn.Module, train: bool) -> jax.Array | None:
    """The key of the call's random masks; None where the model's fields make none of them."""
    random = train and (getattr(model, "dropout", 0) > 0 or model.stochastic_depth > 0)
    return model.make_rng("dropout") if random else None


def depth_rates(last: float, num_blocks: int, ramp: str = "mlp") -> list[tuple[float, float]]:
    """Of each block's two branches the drop probability: from 0, linearly, to `last`.

    It rises from branch to branch (`ramp="mlp"`) or from block to block ("block").

    Raises:
      ValueError: another ramp.
    """
    if ramp not in ("mlp", "block"):
        raise ValueError(f"depth_ramp={ramp!r}: expected 'mlp' or 'block'")
    if ramp == "block":
        return [(last * i / max(1, num_blocks - 1),) * 2 for i in range(num_blocks)]
    slope = last / (2 * num_blocks - 1)
    return [(slope * 2 * i, slope * (2 * i + 1)) for i in range(num_blocks)]


def fold_in(key: jax.Array | None, place: int) -> jax.Array | None:
    """`jax.random.fold_in`, None (evaluation) staying None."""
    return None if key is None else jax.random.fold_in(key, place)


def dropout(x: jax.Array, rate: float, key: jax.Array | None, place: int) -> jax.Array:
    """Zeroes each unit with probability `rate`, the kept ones divided by 1 - rate.

    `key=None` (evaluation) and `rate=0` return `x`. `place` tells apart the uses of one key.
    """
    if key is None or rate == 0:
        return x
    return _keep(x, rate, jax.random.fold_in(key, place), x.shape)


def stochastic_depth(
    x: jax.Array, rate, key: jax.Array | None, place: int, *, rescale: bool = True
) -> jax.Array:
    """Drops a whole branch [N, ...] per example; with `rescale` kept ones are divided by 1 - rate.

    The division keeps the expectation (Huang et al. 2016). `rate` may be a traced scalar.
    """
    if key is None or (isinstance(rate, float) and rate == 0):
        return x
    shape = (len(x),) + (1,) * (x.ndim - 1)
    return _keep(x, rate, jax.random.fold_in(key, place), shape, rescale)


def _keep(x, rate, key, shape, rescale=True):
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, x / (1 - rate) if rescale else x, 0).astype(x.dtype)


def check_grid(
    images: jax.Array, patch_size: int, params: Any, tokens: Callable[[Any], int]
) -> None:
    """Refuses images that the patch size does not divide or the parameters were not made for.

    Args:
      images: [N, H, W, 3].
      patch_size: P, pixels.
      params: the model's parameters, None while they are being made. The stem's kernel is
        [P, P, 3, C].
      tokens: the parameters -> for how many patches they were made.

    Raises:
      ValueError: names both grids and the way out.
    """
    check_images(images)
    height, width = images.shape[1:3]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image size {height} x {width} is not divisible by patch_size {patch_size}: the "
            f"nearest that is, is {_nearest(height, patch_size)} x {_nearest(width, patch_size)}"
        )
    if params is None:
        return
    stored_patch = params["stem"]["kernel"].shape[0]
    if stored_patch != patch_size:
        raise ValueError(
            f"the parameters were made for patch_size {stored_patch}, the model has {patch_size}: "
            f"give it theirs, or them its own by mixer.with_patch_size(params, {patch_size})"
        )
    rows, columns, stored = height // patch_size, width // patch_size, tokens(params)
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


def check_images(images: jax.Array) -> None:
    """Refuses what is no batch of images in [-1, 1], as far as shape and dtype tell.

    Raises:
      ValueError: names what there is, and how to make the other of it.
    """
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


def _nearest(size: int, patch_size: int) -> int:
    return max(1, round(size / patch_size)) * patch_size

"""Layers that several families share: GELU, LayerScale, image normalisation, stages."""

import jax
import numpy as np
from flax import linen as nn

# Of ImageNet's pixels in [0, 1], per channel.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def gelu(x: jax.Array, form: str) -> jax.Array:
    """GELU with the tanh approximation (`form="tanh"`, as in the released Mixers) or exact ("erf").

    Raises:
      ValueError: another form.
    """
    if form not in ("tanh", "erf"):
        raise ValueError(f"gelu={form!r}: expected 'tanh' or 'erf'")
    return jax.nn.gelu(x, approximate=form == "tanh")


class LayerScale(nn.Module):
    """A learned factor per channel, initially `init` (Touvron et al. 2021, CaiT)."""

    init: float

    @nn.compact
    def __call__(self, x):
        gamma = self.param("gamma", nn.initializers.constant(self.init), x.shape[-1:])
        return x * gamma.astype(x.dtype)


def normalized(images: jax.Array, form: str) -> jax.Array:
    """Images [N, H, W, 3] in [-1, 1], normalised as the model's authors do.

    "imagenet": minus the mean of ImageNet's pixels, divided by their deviation; "none": unchanged.

    Raises:
      ValueError: another form, or "imagenet" and other images than RGB.
    """
    if form == "none":
        return images
    if images.shape[-1] != 3:
        raise ValueError(
            f"normalization={form!r} is for RGB, but images have {images.shape[-1]} channels: set "
            f"normalization='none'"
        )
    if form != "imagenet":
        raise ValueError(f"normalization={form!r}: expected 'imagenet' or 'none'")
    return (images * 0.5 + (0.5 - _MEAN)) / _DEVIATION


def stages(model: nn.Module, *fields: str) -> list[tuple]:
    """For each stage, one per number in model.num_blocks: its block count and value of each field.

    Raises:
      ValueError: a field has fewer values.
    """
    count = len(model.num_blocks)
    for field in fields:
        if len(getattr(model, field)) < count:
            raise ValueError(
                f"{field}={getattr(model, field)}: expected {count} numbers, one for each stage of "
                f"num_blocks={model.num_blocks}"
            )
    return list(zip(model.num_blocks, *(getattr(model, f)[:count] for f in fields), strict=True))

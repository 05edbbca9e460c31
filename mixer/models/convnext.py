"""ConvNeXt (Liu et al. 2022, arXiv 2201.03545).

Four stages at 1/4, 1/8, 1/16 and 1/32 of the image's size. A block, on x [N, H, W, C]:
    y = x + s W2 gelu(W1 LN(7x7 depthwise convolution of x))   C -> 4C -> C, s per channel
"""

from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mixer.models import layers
from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import MlpBlock, head
from mixer.models.noise import NO_NOISE, noise_of
from mixer.models.stack import stack

_KERNEL_INIT = nn.initializers.normal(0.02)


class ConvNeXtBlock(nn.Module):
    """One block, which noise drops with one probability."""

    layer_scale_init: float
    gelu: str
    dtype: str

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        width = x.shape[-1]
        depthwise = partial(nn.Conv, feature_group_count=width, kernel_init=_KERNEL_INIT)
        y = depthwise(width, (7, 7), dtype=self.dtype, name="depthwise")(x)
        y = nn.LayerNorm(dtype=jnp.float32)(y)
        dense = partial(nn.Dense, kernel_init=_KERNEL_INIT)
        mlp = partial(MlpBlock, dense=dense, name="channel_mixing")
        y = mlp(4 * width, self.gelu, self.dtype)(y)
        y = layers.LayerScale(self.layer_scale_init)(y)
        return x + noise.stochastic_depth(y, 0)


class ConvNeXt(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features, float32, [N, C] of the last stage's width. There
    are as many stages as num_blocks has numbers, four in the paper's models. H and W may be any
    size of 32 or more; pixels at the right and the bottom that the strides do not cover are cut
    off. Training passes train=True and, for stochastic depth, an rng "dropout": the probability
    rises linearly over all blocks from 0 to `stochastic_depth`. dtype is that of the products
    and of the activations, sums with branches included; parameters, norms, pooling and head
    stay float32. For scan and remat, within each stage, see `stack`.
    """

    num_classes: int
    num_blocks: tuple[int, ...]
    widths: tuple[int, ...]
    layer_scale_init: float = 1e-6
    stochastic_depth: float = 0.0
    gelu: str = "erf"
    normalization: str = "imagenet"
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    @checks_images
    def __call__(self, images, train: bool = False):
        conv = partial(nn.Conv, padding="VALID", kernel_init=_KERNEL_INIT, dtype=self.dtype)
        block = partial(ConvNeXtBlock, self.layer_scale_init, self.gelu, self.dtype)
        ramp = iter(np.linspace(0, self.stochastic_depth, sum(self.num_blocks)).tolist())
        rates = [[next(ramp) for _ in range(blocks)] for blocks in self.num_blocks]
        noise = noise_of(self, train, rates)
        x, least = layers.normalized(images, self.normalization), 2 ** (len(self.num_blocks) + 1)
        if min(images.shape[1:3]) < least:
            height, width = images.shape[1:3]
            raise ValueError(f"image size {height} x {width}: expected {least} pixels or more")
        for i, (_, width) in enumerate(layers.stages(self, "widths")):
            if i == 0:
                x = conv(width, (4, 4), (4, 4), name="stem")(x)
                x = nn.LayerNorm(dtype=jnp.float32, name="stem_norm")(x).astype(x.dtype)
            else:
                x = nn.LayerNorm(dtype=jnp.float32, name=f"downsample_norm_{i}")(x)
                x = conv(width, (2, 2), (2, 2), name=f"downsample_{i}")(x)
            x = stack(self, block, f"stage_{i}_block", x, noise[i])
        x = x.mean(axis=(1, 2), dtype=jnp.float32)
        x = nn.LayerNorm(dtype=jnp.float32, name="pre_head_layer_norm")(x)
        return head(self, x, _KERNEL_INIT)

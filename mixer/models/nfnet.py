"""NFNet (Brock et al. 2021, arXiv 2102.06171): a ResNet that controls variance without norms.

A block, with gelu scaled so that it preserves a variance of 1:
    h = gelu(x) / sigma, where sigma^2 is the variance of x at initialisation
    y = shortcut + 0.2 g SE(conv(gelu(conv(gelu(conv(gelu(conv(h))))))))   g a scalar, initially 0
The shortcut is x itself or, in each stage's first block, a projection of h.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mixer.models import layers
from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import head
from mixer.models.noise import NO_NOISE, noise_of
from mixer.models.stack import stack

_ALPHA = 0.2  # the scale of the branches


def _gelu(x, form):
    return layers.gelu(x, form) * 1.7015043497085571


class WSConv(nn.Module):
    """A convolution with scaled weight standardisation, padded to preserve H and W.

    Each output channel's weights have mean 0 and the norm `gain`.
    """

    features: int
    kernel_size: int
    dtype: str
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel_size,) * 2 + (x.shape[-1] // self.groups, self.features)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernel = self.param("kernel", init, shape)
        gain = self.param("gain", nn.initializers.ones, shape[-1:])
        bias = self.param("bias", nn.initializers.zeros, shape[-1:])
        variance = kernel.var(axis=(0, 1, 2)) * np.prod(shape[:-1], dtype=np.float32)
        scale = gain * jax.lax.rsqrt(jnp.maximum(variance, 1e-4))
        x = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            ((kernel - kernel.mean(axis=(0, 1, 2))) * scale).astype(self.dtype),
            window_strides=(self.stride, self.stride),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=self.groups,
        )
        return x + bias.astype(self.dtype)


class NFBlock(nn.Module):
    """One block; `beta` is 1 / sigma. Noise drops the branch with one probability."""

    width: int
    gelu: str
    dtype: str
    stride: int = 1

    @nn.compact
    def __call__(self, x, noise=NO_NOISE, beta=1.0):
        act, conv = partial(_gelu, form=self.gelu), partial(WSConv, dtype=self.dtype)
        hidden = self.width // 2
        grouped = partial(conv, hidden, 3, groups=max(1, hidden // 128))
        h = act(x) * jnp.asarray(beta, x.dtype)
        shortcut = x
        if self.stride > 1 or x.shape[-1] != self.width:
            window = (self.stride,) * 2
            shortcut = nn.avg_pool(h, window, window, "SAME", count_include_pad=False)
            shortcut = conv(self.width, 1, name="shortcut")(shortcut)
        y = conv(hidden, 1, name="conv_0")(h)
        y = grouped(stride=self.stride, name="conv_1")(act(y))
        y = grouped(name="conv_2")(act(y))
        y = conv(self.width, 1, name="conv_3")(act(y))
        squeezed = y.mean(axis=(1, 2), keepdims=True)
        squeezed = nn.relu(nn.Dense(hidden, dtype=self.dtype, name="squeeze")(squeezed))
        y = 2 * y * nn.sigmoid(nn.Dense(self.width, dtype=self.dtype, name="excite")(squeezed))
        y = noise.stochastic_depth(y, 0)
        gain = self.param("skip_gain", nn.initializers.zeros, ())
        return shortcut + y * (_ALPHA * gain).astype(y.dtype)


class NFNet(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features, float32, [N, 2 C], C being the last stage's width.
    There are as many stages as num_blocks has numbers, four in the paper's models, each of which
    is trained and tested at its own sizes (F0: 192 and 256). Training passes train=True and an rng
    "dropout": for dropout before the head, and for stochastic depth, which drops block i of L with
    probability stochastic_depth * i / L. dtype is that of the products and of the
    activations, sums with branches included; parameters, weight standardisation, pooling and
    head stay float32. For scan and remat, within each stage, see `stack`.

    Image normalisation, the tanh form of GELU and ReLU after the squeeze are as in the authors'
    code. Unlike there, branches that are kept are divided by the probability of keeping them, as in
    all models here, and a group of 192 channels is not split (F4+), which gives the parameters and
    operations that the authors publish.
    They clip gradients unit by unit: `config.optimizer.agc`.
    """

    num_classes: int
    num_blocks: tuple[int, ...]
    widths: tuple[int, ...]
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    gelu: str = "tanh"
    normalization: str = "imagenet"
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    @checks_images
    def __call__(self, images, train: bool = False):
        act, conv = partial(_gelu, form=self.gelu), partial(WSConv, dtype=self.dtype)
        x = layers.normalized(images, self.normalization)
        x = act(conv(16, 3, stride=2, name="stem_0")(x))
        x = act(conv(32, 3, name="stem_1")(x))
        x = act(conv(64, 3, name="stem_2")(x))
        x = conv(self.widths[0] // 2, 3, stride=2, name="stem_3")(x)
        number, slope = itertools.count(), self.stochastic_depth / sum(self.num_blocks)
        rates = [[slope * next(number) for _ in range(blocks)] for blocks in self.num_blocks]
        noise, variance = noise_of(self, train, rates), 1.0
        for i, (blocks, width) in enumerate(layers.stages(self, "widths")):
            block = partial(NFBlock, width, self.gelu, self.dtype)
            # The projection takes h, whose variance is 1: the sum starts over.
            variances = [variance, *(1 + _ALPHA**2 * j for j in range(1, blocks))][:blocks]
            betas, entry = [v**-0.5 for v in variances], partial(block, stride=min(2, i + 1))
            x = stack(self, block, f"stage_{i}_block", x, noise[i], betas, entry=entry)
            variance = 1 + _ALPHA**2 * blocks
        x = act(conv(2 * x.shape[-1], 1, name="final")(x)).mean(axis=(1, 2), dtype=jnp.float32)
        x = noise.dropout(x, len(self.num_blocks))
        return head(self, x, nn.initializers.normal(0.01))

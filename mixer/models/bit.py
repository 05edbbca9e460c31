"""BiT: ResNet-v2 with group norm and weight standardisation (Kolesnikov et al. 2020).

A unit normalises first: the output of 1x1, 3x3 and 1x1 convolutions, each on relu(GN(.)), is added
to the unit's input. The first unit of a stage, which changes the width, adds it to a 1x1
convolution of the first of those activations instead.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import head
from mixer.models.noise import NO_NOISE, Noise
from mixer.models.stack import stack


class StdConv(nn.Module):
    """A convolution without bias whose kernel has mean 0, variance 1 for each output channel.

    Padding is (kernel - 1) / 2 on all sides, also with a stride.
    """

    features: int
    kernel: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        kernel = kernel - kernel.mean((0, 1, 2))
        kernel = kernel * jax.lax.rsqrt(jnp.square(kernel).mean((0, 1, 2)) + 1e-10)
        return jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            (self.stride, self.stride),
            ((self.kernel // 2,) * 2,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class Bottleneck(nn.Module):
    """[N, H, W, .] -> [N, H / stride, W / stride, 4 width]."""

    width: int
    dtype: str
    stride: int = 1
    project: bool = False

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        conv = partial(StdConv, dtype=self.dtype)
        y = nn.relu(group_norm("gn1")(x))
        if self.project:
            x = conv(4 * self.width, 1, self.stride, name="conv_proj")(y)
        y = nn.relu(group_norm("gn2")(conv(self.width, 1, 1, name="conv1")(y)))
        y = nn.relu(group_norm("gn3")(conv(self.width, 3, self.stride, name="conv2")(y)))
        return x + conv(4 * self.width, 1, 1, name="conv3")(y)


def group_norm(name: str) -> nn.GroupNorm:
    """32 groups, float32."""
    return nn.GroupNorm(32, epsilon=1e-5, dtype=jnp.float32, name=name)


class BiT(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features [N, C], float32, C = 4 width 2^(stages - 1).
    num_blocks are the units of each stage; width is that of the first stage's 3x3 convolutions, a
    multiple of 32, and doubles with each stage, as the stride does after the first: 64 in the
    original, 64 k in R..xk. Any H and W.
    The stem's pooling pads with zeros, as for the published weights, not with -inf. dtype is that
    of the convolutions and of the activations, sums with branches included; parameters,
    norms, pooling and head stay float32. Nothing is random: train changes nothing.
    scan and remat ("none", "dots", "full") trade compile time, time and memory: see `stack`.
    """

    num_classes: int
    num_blocks: tuple[int, ...]
    width: int
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    @checks_images
    def __call__(self, images, train: bool = False):
        x = StdConv(self.width, 7, 2, self.dtype, name="conv_root")(images)
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = nn.max_pool(x, (3, 3), (2, 2))
        for i, size in enumerate(self.num_blocks):
            unit = partial(Bottleneck, self.width * 2**i, self.dtype)
            entry = partial(unit, stride=min(2, i + 1), project=True)
            x = stack(self, unit, f"stage_{i}_unit", x, Noise(rates=[None] * size), entry=entry)
        x = nn.relu(group_norm("norm_pre_head")(x)).mean((1, 2))
        return head(self, x)

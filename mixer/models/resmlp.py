"""ResMLP (Touvron et al. 2021, arXiv 2105.03404).

X: [N, S, C], S patches of C channels. A layer, Aff being a scale and an offset for each channel:
    U = X + s1 (A Aff(X) + a)   on columns: token mixing by one matrix, S -> S
    Y = U + s2 W2 gelu(W1 Aff(U))   on rows: channel mixing, C -> 4C -> C
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from mixer.models import layers
from mixer.models.registry import Traits
from mixer.models.stack import stack

_KERNEL_INIT = nn.initializers.normal(0.02)


class Affine(nn.Module):
    """alpha x + beta with a number of each for every channel; in the place of a normalisation."""

    @nn.compact
    def __call__(self, x):
        alpha = self.param("alpha", nn.initializers.ones, x.shape[-1:])
        beta = self.param("beta", nn.initializers.zeros, x.shape[-1:])
        return alpha * x.astype(jnp.float32) + beta


class ResMLPBlock(nn.Module):
    """One layer; each of its branches is dropped with probability `drop`."""

    channels_mlp_dim: int
    layer_scale_init: float
    gelu: str
    dtype: str

    @nn.compact
    def __call__(self, x, drop=0.0, key=None):
        tokens = x.shape[1]
        mix = nn.Dense(tokens, dtype=self.dtype, kernel_init=_KERNEL_INIT, name="token_mixing")
        y = mix(Affine()(x).swapaxes(1, 2)).swapaxes(1, 2)
        y = layers.LayerScale(self.layer_scale_init)(y)
        x = x + layers.stochastic_depth(y, drop, key, 0)
        mlp = partial(layers.MlpBlock, kernel_init=_KERNEL_INIT, name="channel_mixing")
        y = mlp(self.channels_mlp_dim, 0.0, self.gelu, self.dtype)(Affine()(x))
        y = layers.LayerScale(self.layer_scale_init)(y)
        return x + layers.stochastic_depth(y, drop, key, 1)


class ResMLP(nn.Module):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features [N, C], float32. patch_size divides H and W.
    Training passes train=True and, for stochastic depth, an rng "dropout": all branches drop with
    the same probability, `stochastic_depth`, as in the authors' code, from which the
    initialisation is too, and the normalisation of the images. dtype is that of the matrix
    products; parameters, affine maps, pooling and head stay float32. scan and remat: see
    `stack`.
    """

    traits = Traits(family="ResMLP", uniform_depth=True)

    num_classes: int
    patch_size: int
    num_blocks: int
    hidden_dim: int
    channels_mlp_dim: int
    layer_scale_init: float
    stochastic_depth: float = 0.0
    gelu: str = "erf"
    normalization: str = "imagenet"
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, images, train: bool = False):
        images = layers.normalized(images, self.normalization)
        x = layers.patch_stem(self, images, _tokens, _KERNEL_INIT)
        key = layers.dropout_key(self, train)
        block = partial(
            ResMLPBlock, self.channels_mlp_dim, self.layer_scale_init, self.gelu, self.dtype
        )
        rates = [self.stochastic_depth] * self.num_blocks
        x = stack(self, block, "ResMLPBlock", x, rates, key)
        x = Affine(name="pre_head_affine")(x).mean(axis=1)
        return layers.head(self, x, _KERNEL_INIT)


def _tokens(params):
    return len(params["ResMLPBlock_0"]["token_mixing"]["kernel"])

"""ResMLP (Touvron et al. 2021, arXiv 2105.03404).

X: [N, S, C], S patches of C channels. A layer, where Aff is a scale and an offset per channel:
    U = X + s1 (A Aff(X) + a)   on columns: token mixing by one matrix, S -> S
    Y = U + s2 W2 gelu(W1 Aff(U))   on rows: channel mixing, C -> 4C -> C
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from mixer.models import layers
from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import MlpBlock, head
from mixer.models.noise import NO_NOISE, noise_of
from mixer.models.stack import stack

_KERNEL_INIT = nn.initializers.normal(0.02)


class Affine(nn.Module):
    """alpha x + beta, with one alpha and beta per channel; it replaces normalisation."""

    @nn.compact
    def __call__(self, x):
        alpha = self.param("alpha", nn.initializers.ones, x.shape[-1:])
        beta = self.param("beta", nn.initializers.zeros, x.shape[-1:])
        return alpha * x.astype(jnp.float32) + beta


class ResMLPBlock(nn.Module):
    """One layer; noise drops each of its branches with the same probability."""

    channels_mlp_dim: int
    layer_scale_init: float
    gelu: str
    dtype: str

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        tokens = x.shape[1]
        dense = partial(nn.Dense, kernel_init=_KERNEL_INIT)
        mix = dense(tokens, dtype=self.dtype, name="token_mixing")
        y = mix(Affine()(x).swapaxes(1, 2)).swapaxes(1, 2)
        y = layers.LayerScale(self.layer_scale_init)(y)
        x = x + noise.stochastic_depth(y, 0)
        mlp = partial(MlpBlock, dense=dense, name="channel_mixing")
        y = mlp(self.channels_mlp_dim, self.gelu, self.dtype)(Affine()(x))
        y = layers.LayerScale(self.layer_scale_init)(y)
        return x + noise.stochastic_depth(y, 1)


class ResMLP(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features [N, C], float32. patch_size divides H and W.
    Training passes train=True and, for stochastic depth, an rng "dropout": all branches drop with
    the same probability, `stochastic_depth`. This, the initialisation and the image normalisation
    are as in the authors' code. dtype is that of the matrix products and of the activations, sums
    with branches included; parameters, affine maps, pooling and head stay float32. For scan and
    remat see `stack`.
    """

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
    @checks_images
    def __call__(self, images, train: bool = False):
        images = layers.normalized(images, self.normalization)
        patch = (self.patch_size, self.patch_size)
        conv = partial(nn.Conv, dtype=self.dtype, kernel_init=_KERNEL_INIT)
        x = conv(self.hidden_dim, patch, patch, name="stem")(images)
        x = x.reshape(x.shape[0], -1, self.hidden_dim)
        noise = noise_of(self, train, [self.stochastic_depth] * self.num_blocks)
        block = partial(
            ResMLPBlock, self.channels_mlp_dim, self.layer_scale_init, self.gelu, self.dtype
        )
        x = stack(self, block, "ResMLPBlock", x, noise)
        x = Affine(name="pre_head_affine")(x).mean(axis=1)
        return head(self, x, _KERNEL_INIT)

"""MLP-Mixer (Tolstikhin et al. 2021, section 2, table 1, appendix E).

X: [N, S, C], S patches of C channels. A layer:
    U = X + W2 gelu(W1 LN(X))   on columns: token mixing, S -> D_S -> S
    Y = U + W4 gelu(W3 LN(U))   on rows: channel mixing, C -> D_C -> C
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from mixer.models.images import ImageModel, checks_images
from mixer.models.layers import gelu
from mixer.models.noise import NO_NOISE, depth_rates, noise_of
from mixer.models.stack import stack


class MlpBlock(nn.Module):
    """[..., D] -> hidden_dim -> [..., D] or [..., out_dim], GELU between."""

    hidden_dim: int
    gelu: str
    dtype: str
    out_dim: int = 0
    dense: Callable[..., nn.Dense] = nn.Dense

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        y = self.dense(self.hidden_dim, dtype=self.dtype)(x)
        y = noise.dropout(gelu(y, self.gelu), 0)
        y = self.dense(self.out_dim or x.shape[-1], dtype=self.dtype)(y)
        return noise.dropout(y, 1)


class MixerBlock(nn.Module):
    """One layer, [N, S, C] -> [N, S, C]."""

    tokens_mlp_dim: int
    channels_mlp_dim: int
    gelu: str
    dtype: str

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        of_tokens, of_channels = noise[0], noise[1]
        y = nn.LayerNorm(dtype=jnp.float32)(x).swapaxes(1, 2)
        mlp = MlpBlock(self.tokens_mlp_dim, self.gelu, self.dtype, name="token_mixing")
        x = x + of_tokens.stochastic_depth(mlp(y, of_tokens).swapaxes(1, 2))
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        mlp = MlpBlock(self.channels_mlp_dim, self.gelu, self.dtype, name="channel_mixing")
        return x + of_channels.stochastic_depth(mlp(y, of_channels))


class Mixer(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 gives features [N, C]. fields.py has the fields; noise.py says what needs an rng
    "dropout" if train=True. dtype is that of the products, of X and of U; all else stays float32.
    """

    num_classes: int
    patch_size: int
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    depth_ramp: str = "mlp"
    depth_rescale: bool = True
    gelu: str = "tanh"
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    @checks_images
    def __call__(self, images, train: bool = False):
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(self.hidden_dim, patch, patch, dtype=self.dtype, name="stem")(images)
        x = x.reshape(x.shape[0], -1, self.hidden_dim)
        widths = self.tokens_mlp_dim, self.channels_mlp_dim
        block = partial(MixerBlock, *widths, self.gelu, self.dtype)
        rates = depth_rates(self.stochastic_depth, self.num_blocks, self.depth_ramp)
        x = stack(self, block, "MixerBlock", x, noise_of(self, train, rates))
        x = nn.LayerNorm(dtype=jnp.float32, name="pre_head_layer_norm")(x).mean(axis=1)
        return head(self, x)


def head(model, x, kernel_init=nn.initializers.zeros):
    """Features [N, C] -> logits; num_classes=0 returns the features, float32 as they are sown."""
    x = x.astype(jnp.float32)
    model.sow("intermediates", "pre_logits", x)
    if model.num_classes == 0:
        return x
    bias_init = nn.initializers.constant(model.head_bias_init)
    return nn.Dense(model.num_classes, kernel_init=kernel_init, bias_init=bias_init, name="head")(x)

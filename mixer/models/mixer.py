"""MLP-Mixer (Tolstikhin et al. 2021, section 2, table 1, appendix E).

X: [N, S, C], S patches of C channels. A layer:
    U = X + W2 gelu(W1 LN(X))   on columns: token mixing, S -> D_S -> S
    Y = U + W4 gelu(W3 LN(U))   on rows: channel mixing, C -> D_C -> C
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from mixer.models import layers
from mixer.models.registry import Traits
from mixer.models.stack import stack


class MixerBlock(nn.Module):
    """One Mixer layer; `drop` holds the two MLPs' stochastic-depth probabilities."""

    tokens_mlp_dim: int
    channels_mlp_dim: int
    mlp: Callable[..., layers.MlpBlock]
    rescale: bool = True

    @nn.compact
    def __call__(self, x, drop=(0.0, 0.0), key=None):
        skip = partial(layers.stochastic_depth, rescale=self.rescale)
        tokens_key, channels_key = layers.fold_in(key, 0), layers.fold_in(key, 1)
        y = nn.LayerNorm(dtype=jnp.float32)(x).swapaxes(1, 2)
        y = self.mlp(self.tokens_mlp_dim, name="token_mixing")(y, tokens_key).swapaxes(1, 2)
        x = x + skip(y, drop[0], tokens_key, 2)
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        y = self.mlp(self.channels_mlp_dim, name="channel_mixing")(y, channels_key)
        return x + skip(y, drop[1], channels_key, 2)


class Mixer(nn.Module):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features [N, C], float32. patch_size divides H and W.
    Training passes train=True and, for dropout and stochastic depth, an rng "dropout". Of the
    2 x num_blocks MLPs, number j drops with probability stochastic_depth * j / (2L - 1), as the
    paper words it, and what is kept is divided by the probability of that. big_vision's code has
    both of block i drop with stochastic_depth * i / (L - 1), depth_ramp="block", and does not
    divide, depth_rescale=False.
    dtype is that of the matrix products; parameters, norms, pooling and head stay float32.
    scan and remat ("none", "dots", "full") trade compile time, time and memory: see `stack`.
    """

    traits = Traits(family="Mixer")

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
    def __call__(self, images, train: bool = False):
        x = layers.patch_stem(self, images, partial(_tokens, self.tokens_mlp_dim))
        mlp = partial(layers.MlpBlock, dropout=self.dropout, gelu=self.gelu, dtype=self.dtype)
        widths = self.tokens_mlp_dim, self.channels_mlp_dim
        block = partial(MixerBlock, *widths, mlp, self.depth_rescale)
        rates = layers.depth_rates(self.stochastic_depth, self.num_blocks, self.depth_ramp)
        x = stack(self, block, "MixerBlock", x, rates, layers.dropout_key(self, train))
        x = nn.LayerNorm(dtype=jnp.float32, name="pre_head_layer_norm")(x).mean(axis=1)
        return layers.head(self, x)


def _tokens(width, params):
    tokens, stored = params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"].shape
    if stored != width:
        raise ValueError(
            f"the parameters have token-mixing MLPs of {stored} units, the model has "
            f"tokens_mlp_dim={width}: parameters for another resolution are for the model "
            f"mixer.at_resolution(model, image_size, pretrained_size)"
        )
    return tokens

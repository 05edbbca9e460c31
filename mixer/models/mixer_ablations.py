"""The Mixers of appendix A, whose token mixing is another: none of them helped at scale.

X is [N, S, C], S patches of C channels. All but the token mixing is the Mixer's, where it is one
MLP, S -> D_S -> S, for all channels ("shared" here). The others:

- untied: an MLP S -> D_S -> S for each of the C channels.
- grouped: G neighbouring channels are concatenated, so that C / G columns go through one MLP,
  S G -> D_S -> S G.
- views: G learned maps R^C -> R^(C / G) give G views of each token; they are concatenated and
  mixed as above. The paper does not say how they become C channels again: here, side by side.
- pyramid: in some layers the MLP maps S tokens to S' < S. The paper names neither the layers nor
  S', and leaves open what becomes of the skip connection, which has S tokens. Here the layers are
  divided into `stages` of the same length, the first layer of each but the first keeps a quarter
  of the tokens, and its token mixing has no skip connection.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixer.models import layers
from mixer.models.stack import stack


class AblatedBlock(nn.Module):
    """A Mixer layer with another token mixing; `new_tokens` S' > 0 makes S' tokens of S."""

    token_mixing: str
    groups: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    mlp: Callable[..., layers.MlpBlock]
    new_tokens: int = 0

    @nn.compact
    def __call__(self, x, drop=(0.0, 0.0), key=None):
        skip = layers.stochastic_depth
        tokens_key, channels_key = layers.fold_in(key, 0), layers.fold_in(key, 1)
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        y = _MIXINGS[self.token_mixing](self, y, tokens_key)
        x = y if self.new_tokens else x + skip(y, drop[0], tokens_key, 2)
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        y = self.mlp(self.channels_mlp_dim, name="channel_mixing")(y, channels_key)
        return x + skip(y, drop[1], channels_key, 2)


def _shared(block: AblatedBlock, x: jax.Array, key) -> jax.Array:
    mlp = block.mlp(block.tokens_mlp_dim, out_dim=block.new_tokens, name="token_mixing")
    return mlp(x.swapaxes(1, 2), key).swapaxes(1, 2)


def _untied(block: AblatedBlock, x: jax.Array, key) -> jax.Array:
    keys = None if key is None else jax.random.split(key, x.shape[2])
    each = nn.vmap(
        layers.MlpBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(2, None if key is None else 0),
        out_axes=2,
    )
    fields = block.mlp.keywords
    return each(block.tokens_mlp_dim, **fields, name="token_mixing")(x, keys)


def _grouped(block: AblatedBlock, x: jax.Array, key) -> jax.Array:
    count, tokens, channels = x.shape
    columns = x.reshape(count, tokens, channels // block.groups, block.groups).swapaxes(2, 3)
    mixed = _shared(block, columns.reshape(count, tokens * block.groups, -1), key)
    mixed = mixed.reshape(columns.shape).swapaxes(2, 3)
    return mixed.reshape(x.shape)


def _views(block: AblatedBlock, x: jax.Array, key) -> jax.Array:
    count, tokens, channels = x.shape
    maps = nn.Dense(channels, dtype=block.mlp.keywords["dtype"], name="views")
    views = maps(x).reshape(count, tokens * block.groups, channels // block.groups)
    return _shared(block, views, key).reshape(x.shape)


_MIXINGS = {
    "shared": _shared,
    "untied": _untied,
    "grouped": _grouped,
    "views": _views,
    "pyramid": _shared,
}


class AblatedMixer(nn.Module):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    token_mixing: shared (the Mixer), untied, grouped, views or pyramid. groups: G, which divides C,
    of the grouped and the views. stages: of the pyramid. The other fields, and what training
    passes, are the Mixer's. There is no rule that takes its parameters to another resolution.
    """

    num_classes: int
    patch_size: int
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    token_mixing: str
    groups: int = 1
    stages: int = 1
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    gelu: str = "tanh"
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, images, train: bool = False):
        self._check()
        x = layers.patch_stem(self, images, partial(_tokens, self))
        mlp = partial(layers.MlpBlock, dropout=self.dropout, gelu=self.gelu, dtype=self.dtype)
        block = partial(
            AblatedBlock,
            self.token_mixing,
            self.groups,
            self.tokens_mlp_dim,
            self.channels_mlp_dim,
            mlp,
        )
        rates = layers.depth_rates(self.stochastic_depth, self.num_blocks)
        key = layers.dropout_key(self, train)
        layers_each = self.num_blocks // self.stages
        for stage in range(self.stages):
            own = rates[stage * layers_each : (stage + 1) * layers_each]
            if stage == 0:
                x = stack(self, block, "MixerBlock", x, own, key)
                continue
            fewer = partial(block, new_tokens=max(1, x.shape[1] // 4))
            name, stage_key = f"Stage{stage}_MixerBlock", layers.fold_in(key, 2**16 + stage)
            x = stack(self, block, name, x, own, stage_key, entry=fewer)
        x = nn.LayerNorm(dtype=jnp.float32, name="pre_head_layer_norm")(x).mean(axis=1)
        return layers.head(self, x)

    def _check(self) -> None:
        """Refuses fields that do not fit.

        Raises:
          ValueError: they do not.
        """
        if self.token_mixing not in _MIXINGS:
            raise ValueError(
                f"token_mixing={self.token_mixing!r}: expected one of {', '.join(_MIXINGS)}"
            )
        if self.groups > 1 and self.token_mixing not in ("grouped", "views"):
            raise ValueError(f"groups={self.groups} is for token_mixing 'grouped' and 'views'")
        if self.stages > 1 and self.token_mixing != "pyramid":
            raise ValueError(f"stages={self.stages} is for token_mixing 'pyramid'")
        if self.groups < 1 or self.hidden_dim % self.groups:
            raise ValueError(f"groups={self.groups} does not divide hidden_dim={self.hidden_dim}")
        if self.stages < 1 or self.num_blocks % self.stages:
            raise ValueError(f"stages={self.stages} does not divide num_blocks={self.num_blocks}")


def _tokens(model: AblatedMixer, params) -> int:
    """For how many patches parameters were made."""
    return params["MixerBlock_0"]["token_mixing"]["Dense_0"]["kernel"].shape[-2] // model.groups

"""The Mixer variants of appendix A, with other token mixing: none of them helped at scale.

X is [N, S, C], S patches of C channels. Only the token mixing differs from the Mixer's, which is
one MLP, S -> D_S -> S, for all channels ("shared" here). The others:

- untied: an MLP S -> D_S -> S for each of the C channels.
- grouped: G neighbouring channels are concatenated, so that C / G columns go through one MLP,
  S G -> D_S -> S G.
- views: G learned maps R^C -> R^(C / G) give G views of each token; they are concatenated and
  mixed as above. The paper does not say how they become C channels again: here, side by side.
- pyramid: in some layers the MLP maps S tokens to S' < S. The paper names neither the layers nor
  S', and does not say what happens to the skip connection, which has S tokens. Here the layers are
  divided into `stages` of equal length; the first layer of each stage but the first keeps a quarter
  of the tokens, and its token mixing has no skip connection.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import MlpBlock, head
from mixer.models.noise import NO_NOISE, Noise, depth_rates, noise_of
from mixer.models.stack import stack


class AblatedBlock(nn.Module):
    """A Mixer layer with another token mixing; `new_tokens` S' > 0 maps S tokens to S'."""

    token_mixing: str
    groups: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    gelu: str
    dtype: str
    new_tokens: int = 0

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        of_tokens, of_channels = noise[0], noise[1]
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        y = _MIXINGS[self.token_mixing](self, y, of_tokens)
        x = y if self.new_tokens else x + of_tokens.stochastic_depth(y)
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        mlp = MlpBlock(self.channels_mlp_dim, self.gelu, self.dtype, name="channel_mixing")
        return x + of_channels.stochastic_depth(mlp(y, of_channels))


def _shared(block: AblatedBlock, x: jax.Array, noise: Noise) -> jax.Array:
    fields = block.tokens_mlp_dim, block.gelu, block.dtype, block.new_tokens
    return MlpBlock(*fields, name="token_mixing")(x.swapaxes(1, 2), noise).swapaxes(1, 2)


def _untied(block: AblatedBlock, x: jax.Array, noise: Noise) -> jax.Array:
    keys = None if noise.key is None else jax.random.split(noise.key, x.shape[2])
    each = nn.vmap(
        MlpBlock,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(2, 0),
        out_axes=2,
    )
    mlps = each(block.tokens_mlp_dim, block.gelu, block.dtype, name="token_mixing")
    return mlps(x, noise.replace(key=keys, rates=None))


def _grouped(block: AblatedBlock, x: jax.Array, noise: Noise) -> jax.Array:
    count, tokens, channels = x.shape
    columns = x.reshape(count, tokens, channels // block.groups, block.groups).swapaxes(2, 3)
    mixed = _shared(block, columns.reshape(count, tokens * block.groups, -1), noise)
    mixed = mixed.reshape(columns.shape).swapaxes(2, 3)
    return mixed.reshape(x.shape)


def _views(block: AblatedBlock, x: jax.Array, noise: Noise) -> jax.Array:
    count, tokens, channels = x.shape
    maps = nn.Dense(channels, dtype=block.dtype, name="views")
    views = maps(x).reshape(count, tokens * block.groups, channels // block.groups)
    return _shared(block, views, noise).reshape(x.shape)


_MIXINGS = {
    "shared": _shared,
    "untied": _untied,
    "grouped": _grouped,
    "views": _views,
    "pyramid": _shared,
}


class AblatedMixer(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    token_mixing: shared (the Mixer), untied, grouped, views or pyramid. groups: G of grouped and
    views, which divides C. stages: of pyramid. The other fields, and the arguments in training, are
    the Mixer's. Its parameters cannot be resized to another resolution.
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
    @checks_images
    def __call__(self, images, train: bool = False):
        self._check()
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(self.hidden_dim, patch, patch, dtype=self.dtype, name="stem")(images)
        x = x.reshape(x.shape[0], -1, self.hidden_dim)
        widths = self.tokens_mlp_dim, self.channels_mlp_dim
        kind = self.token_mixing, self.groups
        block = partial(AblatedBlock, *kind, *widths, self.gelu, self.dtype)
        rates = depth_rates(self.stochastic_depth, self.num_blocks)
        noise = noise_of(self, train, rates)
        layers_each = self.num_blocks // self.stages
        for stage in range(self.stages):
            own = rates[stage * layers_each : (stage + 1) * layers_each]
            if stage == 0:
                x = stack(self, block, "MixerBlock", x, noise.replace(rates=own))
                continue
            fewer = partial(block, new_tokens=max(1, x.shape[1] // 4))
            name, own_noise = f"Stage{stage}_MixerBlock", noise.at(2**16 + stage, own)
            x = stack(self, block, name, x, own_noise, entry=fewer)
        x = nn.LayerNorm(dtype=jnp.float32, name="pre_head_layer_norm")(x).mean(axis=1)
        return head(self, x)

    def _check(self) -> None:
        """Checks that the fields are compatible.

        Raises:
          ValueError: they are not.
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

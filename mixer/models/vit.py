"""Vision Transformer (Dosovitskiy et al. 2021), as in the paper's code.

Tokens [N, S, D] are the patches, behind a class token if that is what is read; a learned table of
positions is added to them. A block:
    U = X + attention(LN(X))
    Y = U + W2 gelu(W1 LN(U))
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import MlpBlock, head
from mixer.models.noise import NO_NOISE, depth_rates, noise_of
from mixer.models.stack import stack

_XAVIER = nn.initializers.xavier_uniform()
_DENSE = partial(nn.Dense, kernel_init=_XAVIER, bias_init=nn.initializers.normal(1e-6))


class EncoderBlock(nn.Module):
    """One block of two branches: attention, MLP."""

    num_heads: int
    mlp_dim: int
    gelu: str
    dtype: str

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        of_attention, of_mlp = noise[0], noise[1]
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        # JAX's own attention: its logits and softmax are float32 whatever the dtype.
        y = nn.MultiHeadDotProductAttention(
            self.num_heads,
            dtype=self.dtype,
            kernel_init=_XAVIER,
            attention_fn=jax.nn.dot_product_attention,
        )(y)
        x = x + of_attention.stochastic_depth(of_attention.dropout(y, 0))
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        mlp = MlpBlock(self.mlp_dim, self.gelu, self.dtype, dense=_DENSE, name="MlpBlock_0")
        return x + of_mlp.stochastic_depth(mlp(y, of_mlp))


class ViT(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features [N, C], float32. patch_size divides H and W.
    pooling: "token" reads the class token, "gap" the mean of the patches, without a class token;
    both after the last norm. representation_size R > 0 adds Dense(R) and tanh before the head, as
    in the original pretraining; C is then R, else hidden_dim.
    Training passes train=True and, for dropout and stochastic depth, an rng "dropout". Dropout
    applies to the embedded tokens, to the output of each of a block's branches and inside its MLP,
    not to attention weights. Branch j of 2L drops with probability stochastic_depth * j / (2L - 1).
    dtype is that of the matrix products and of the activations, sums with branches included;
    parameters, norms, softmax, pooling and head stay float32.
    scan and remat ("none", "dots", "full") trade compile time, time and memory: see `stack`.
    """

    num_classes: int
    patch_size: int
    num_blocks: int
    hidden_dim: int
    mlp_dim: int
    num_heads: int
    pooling: str = "token"
    representation_size: int = 0
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
        if self.pooling not in ("token", "gap"):
            raise ValueError(f"pooling={self.pooling!r}: expected 'token' or 'gap'")
        patch = (self.patch_size, self.patch_size)
        x = nn.Conv(self.hidden_dim, patch, patch, dtype=self.dtype, name="stem")(images)
        x = x.reshape(x.shape[0], -1, self.hidden_dim)
        if self.pooling == "token":
            cls = self.param("cls", nn.initializers.zeros, (1, 1, self.hidden_dim))
            cls = jnp.broadcast_to(cls, (x.shape[0], *cls.shape[1:])).astype(x.dtype)
            x = jnp.concatenate([cls, x], axis=1)
        positions = nn.initializers.normal(0.02)
        x = x + self.param("pos_embedding", positions, (1, *x.shape[1:])).astype(x.dtype)
        noise = noise_of(self, train, depth_rates(self.stochastic_depth, self.num_blocks))
        x = noise.dropout(x, self.num_blocks)
        block = partial(EncoderBlock, self.num_heads, self.mlp_dim, self.gelu, self.dtype)
        x = stack(self, block, "encoderblock", x, noise)
        x = nn.LayerNorm(dtype=jnp.float32, name="encoder_norm")(x)
        x = x[:, 0] if self.pooling == "token" else x.mean(axis=1)
        if self.representation_size:
            x = nn.tanh(nn.Dense(self.representation_size, name="representation")(x))
        return head(self, x)

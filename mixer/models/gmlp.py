"""gMLP (Liu et al. 2021, arXiv 2105.08050): one branch per layer, with a gate that mixes tokens.

X: [N, S, C], S patches of C channels. A layer:
    [U V] = gelu(W1 LN(X))   on rows: C -> 6C, in two halves
    Y = X + W2 (U * (A LN(V) + a))   A on columns: S -> S, initially near 0, and a initially 1
"""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn

from mixer.models import layers
from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import head
from mixer.models.noise import NO_NOISE, noise_of
from mixer.models.stack import stack

_KERNEL_INIT = nn.initializers.xavier_uniform()


class GMLPBlock(nn.Module):
    """One layer, which noise drops with one probability."""

    ffn_dim: int
    gelu: str
    dtype: str

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        dense = partial(nn.Dense, dtype=self.dtype, kernel_init=_KERNEL_INIT)
        y = nn.LayerNorm(dtype=jnp.float32)(x)
        u, v = jnp.split(layers.gelu(dense(self.ffn_dim)(y), self.gelu), 2, axis=-1)
        v = nn.LayerNorm(1e-5, dtype=jnp.float32)(v).swapaxes(1, 2)
        mix = partial(dense, kernel_init=nn.initializers.normal(1e-6), name="token_mixing")
        v = mix(v.shape[-1], bias_init=nn.initializers.ones)(v).swapaxes(1, 2)
        return x + noise.stochastic_depth(dense(x.shape[-1])(u * v), 0)


class GMLP(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features [N, C], float32. patch_size divides H and W.
    Training passes train=True and, for stochastic depth, an rng "dropout": every layer drops with
    probability `stochastic_depth`, 1 - the paper's survival probability. (The authors' code is not
    public; a rate without a ramp, Xavier initialisation and the norms' epsilons are timm's.)
    dtype is that of the matrix products and of the activations, sums with branches included;
    parameters, norms, pooling and head stay float32. For scan and remat see `stack`.
    """

    num_classes: int
    patch_size: int
    num_blocks: int
    hidden_dim: int
    ffn_dim: int
    stochastic_depth: float = 0.0
    gelu: str = "erf"
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
        noise = noise_of(self, train, [self.stochastic_depth] * self.num_blocks)
        block = partial(GMLPBlock, self.ffn_dim, self.gelu, self.dtype)
        x = stack(self, block, "GMLPBlock", x, noise)
        x = nn.LayerNorm(dtype=jnp.float32, name="pre_head_layer_norm")(x).mean(axis=1)
        return head(self, x)

"""HaloNet (Vaswani et al. 2021, arXiv 2103.12731): a ResNet with local self-attention.

The map is cut into blocks of b x b pixels. The queries of a block attend to the keys and values of
(b + 2h) x (b + 2h) pixels: the block and a halo of h around it.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixer.models import layers
from mixer.models.images import ImageModel, checks_images
from mixer.models.mixer import head
from mixer.models.noise import NO_NOISE, Noise
from mixer.models.stack import stack


class HaloAttention(nn.Module):
    """[N, H, W, C] -> [N, H / stride, W / stride, value_dim], rounded up.

    softmax(q.(k + r) / sqrt(d)) v, in each head of d = C / num_heads channels; r is the sum of a
    vector for the row offset and one for the column offset, which the heads share. With a stride,
    only every second pixel is a query. Outside the map, keys and values are 0 and are attended to.
    Blocks start at the top left; the last ones may extend beyond the map.
    """

    value_dim: int
    num_heads: int
    block_size: int
    halo_size: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x):
        block, halo, stride = self.block_size, self.halo_size, self.stride
        if block % stride:
            raise ValueError(f"block_size={block}: expected an even number")
        window, depth = block + 2 * halo, x.shape[-1] // self.num_heads
        blocks = tuple(-(-size // block) for size in x.shape[1:3])
        dense = partial(nn.Dense, use_bias=False, dtype=self.dtype)
        query = dense(x.shape[-1], name="query")(x[:, ::stride, ::stride]) * depth**-0.5
        memory = dense(x.shape[-1] + self.value_dim, name="key_value")(x)
        size, memory = query.shape[1:3], windows(memory, blocks, block, halo)
        query = windows(query, blocks, block // stride, 0)
        query, key, value = (
            part.reshape(*part.shape[:-1], self.num_heads, -1)
            for part in (query, *jnp.split(memory, [x.shape[-1]], axis=-1))
        )
        logits = jnp.einsum("NRiCjhd,NRaCbhd->NRCijhab", query, key)
        for number, axis in enumerate(("rows", "columns")):
            # Row t of the table is for the offset t - (window - 1).
            init = nn.initializers.normal(depth**-0.5)
            table = self.param(f"relative_{axis}", init, (2 * window - 1, depth))
            scores = jnp.einsum("NRiCjhd,td->NRCijht", query, table.astype(query.dtype))
            scores = _parts(scores, window - 1 - halo, stride, window, 3 + number)
            logits += jnp.expand_dims(scores, -1 - number)
        weights = jax.nn.softmax(logits.astype(jnp.float32), axis=(-2, -1)).astype(value.dtype)
        y = jnp.einsum("NRCijhab,NRaCbhd->NRiCjhd", weights, value)
        y = y.reshape(y.shape[0], y.shape[1] * y.shape[2], y.shape[3] * y.shape[4], -1)
        return y[:, : size[0], : size[1]]


def windows(x, blocks, side, halo):
    """[N, H, W, C] -> [N, R, side + 2 halo, C, side + 2 halo, C]: R x C blocks, each with a halo.

    Outside the map there are zeros. It uses slices, whose gradient, unlike a gather's, is cheap.
    """
    for axis, count in zip((1, 3), blocks, strict=True):
        around = [(0, 0)] * x.ndim
        around[axis] = halo, halo + count * side - x.shape[axis]
        x, end = jnp.pad(x, around), (count - 1) * side + 1
        offsets = range(side + 2 * halo)
        x = [jax.lax.slice_in_dim(x, i, i + end, side, axis) for i in offsets]
        x = jnp.stack(x, axis + 1)
    return x


def _parts(scores, first, step, length, axis):
    """For query i along `axis`: `length` numbers of the last axis, starting at first - i * step."""
    scores = jnp.moveaxis(scores, axis, 0)
    parts = [part[..., first - i * step :][..., :length] for i, part in enumerate(scores)]
    return jnp.stack(parts, axis)


class HaloBlock(nn.Module):
    """1 x 1, attention, 1 x 1; the shortcut is projected if the size or the width changes."""

    width: int
    out_dim: int
    attention: Callable[..., HaloAttention]
    norm: Callable[..., nn.GroupNorm]
    dtype: str
    stride: int = 1

    @nn.compact
    def __call__(self, x, noise=NO_NOISE):
        dense = partial(nn.Dense, use_bias=False, dtype=self.dtype)
        y = nn.relu(self.norm()(dense(self.width)(x)))
        y = nn.relu(self.norm()(self.attention(stride=self.stride, name="attention")(y)))
        y = self.norm()(dense(self.out_dim)(y))
        if self.stride > 1 or x.shape[-1] != self.out_dim:
            x = dense(self.out_dim, name="shortcut")(x[:, :: self.stride, :: self.stride])
            x = self.norm(name="shortcut_norm")(x)
        return nn.relu(x.astype(self.dtype) + y.astype(self.dtype))


class HaloNet(ImageModel):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features, float32, [N, final_dim], or of the last stage's
    width if final_dim is 0. There are as many stages as num_blocks has numbers, four in the paper's
    models. H and W may be any. Nothing is random: train=True changes nothing. dtype is that of the
    products and of the activations, sums with branches included; parameters, norms, softmax,
    pooling and head stay float32. For scan and remat, within each stage, see `stack`.

    The models have no state, so they use group norm (16 channels, one image) instead of the paper's
    batch norm, with as many parameters. The authors' code is not public: block and halo sizes,
    ratios and depths are those on which two public transcriptions of the paper agree; the numbers
    of heads are from one of them. ReLU, the stem, the places of the norms and strided queries are
    as in timm, and so are the logits (tools/timm_parity.py), except that timm scales only q.k and
    numbers the positions of strided queries as if there were no stride. In each table of relative
    positions, halo_size rows at both ends are never used, but every count includes them. "H4 (base
    128, Conv-12)" of the Mixer paper's table 2 is uncertain, and so not included: H4 with twice the
    width and convolutions in the first two stages has 70 million parameters, the published one 87.
    """

    num_classes: int
    num_blocks: tuple[int, ...]
    widths: tuple[int, ...]
    num_heads: tuple[int, ...]
    block_size: int
    halo_size: int
    value_ratio: float
    out_ratio: float
    final_dim: int = 0
    normalization: str = "imagenet"
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    @checks_images
    def __call__(self, images, train: bool = False):
        norm = partial(nn.GroupNorm, num_groups=None, group_size=16, dtype=jnp.float32)
        conv = partial(nn.Conv, 64, (7, 7), (2, 2), 3, use_bias=False, dtype=self.dtype)
        x = layers.normalized(images, self.normalization)
        x = nn.relu(norm(name="stem_norm")(conv(name="stem")(x))).astype(self.dtype)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for i, (blocks, width, heads) in enumerate(layers.stages(self, "widths", "num_heads")):
            attention = partial(
                HaloAttention,
                value_dim=int(width * self.value_ratio),
                num_heads=heads,
                block_size=self.block_size,
                halo_size=self.halo_size,
                dtype=self.dtype,
            )
            out_dim = int(width * self.out_ratio)
            block = partial(HaloBlock, width, out_dim, attention, norm, self.dtype)
            entry = partial(block, stride=min(2, i + 1))
            x = stack(self, block, f"stage_{i}_block", x, Noise(rates=[None] * blocks), entry=entry)
        if self.final_dim:
            final = nn.Dense(self.final_dim, use_bias=False, dtype=self.dtype, name="final")
            x = nn.relu(norm(name="final_norm")(final(x)))
        return head(self, x.mean(axis=(1, 2), dtype=jnp.float32))

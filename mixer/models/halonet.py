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
from mixer.models.stack import stack


class HaloAttention(nn.Module):
    """[N, H, W, C] -> [N, H / stride, W / stride, value_dim], rounded up.

    softmax(q.(k + r) / sqrt(d)) v, in each head of d = C / num_heads channels; r is the sum of a
    vector for the offset in rows and one for that in columns, which the heads share. With a stride,
    queries are of every second pixel. Outside of the map keys and values are 0 and take part. The
    blocks begin at the top left; the last ones may stand out.
    """

    value_dim: int
    num_heads: int
    block_size: int
    halo_size: int
    stride: int
    dtype: str

    @nn.compact
    def __call__(self, x):
        (height, width, channels), stride = x.shape[1:], self.stride
        block, halo, heads = self.block_size, self.halo_size, self.num_heads
        if block % stride:
            raise ValueError(f"block_size={block}: expected an even number")
        window, depth = block + 2 * halo, channels // heads
        rows, columns = -(-height // block), -(-width // block)
        dense = partial(nn.Dense, use_bias=False, dtype=self.dtype)
        query = dense(channels, name="query")(x[:, ::stride, ::stride]) * depth**-0.5
        high, wide = query.shape[1:3]
        side = block // stride
        short = (rows * side - high, columns * side - wide)
        query = jnp.pad(query, ((0, 0), (0, short[0]), (0, short[1]), (0, 0)))
        query = query.reshape(-1, rows, side, columns, side, heads, depth)

        def windows(x):
            for axis, blocks in ((1, rows), (3, columns)):
                before_after = [(0, 0)] * x.ndim
                before_after[axis] = halo, halo + blocks * block - x.shape[axis]
                x = jnp.pad(x, before_after)
                last = (blocks - 1) * block + 1
                # By slices, which unlike a gather have a cheap gradient.
                x = jnp.stack(
                    [jax.lax.slice_in_dim(x, i, i + last, block, axis) for i in range(window)],
                    axis + 1,
                )
            return x.reshape(*x.shape[:-1], heads, -1)

        key = windows(dense(channels, name="key")(x))
        value = windows(dense(self.value_dim, name="value")(x))
        logits = jnp.einsum("NRiCjhd,NRaCbhd->NRChijab", query, key)
        init = nn.initializers.normal(depth**-0.5)
        for name, axis in (("rows", 4), ("columns", 5)):
            # Row t is for offset t - (window - 1): all by one product, then each query takes its own.
            table = self.param(f"relative_{name}", init, (2 * window - 1, depth))
            scores = jnp.einsum("NRiCjhd,td->NRChijt", query, table.astype(query.dtype))
            of_queries = []
            for i in range(side):
                start = window - 1 - halo - stride * i
                scores_i = jax.lax.index_in_dim(scores, i, axis, keepdims=False)
                of_queries.append(scores_i[..., start : start + window])
            scores = jnp.stack(of_queries, axis)
            logits += scores[..., None] if name == "rows" else scores[..., None, :]
        logits = logits.astype(jnp.float32)
        weights = jax.nn.softmax(logits, axis=(-2, -1)).astype(value.dtype)
        y = jnp.einsum("NRChijab,NRaCbhd->NRiCjhd", weights, value)
        return y.reshape(-1, rows * side, columns * side, self.value_dim)[:, :high, :wide]


class HaloBlock(nn.Module):
    """1 x 1, attention, 1 x 1; the shortcut is projected where size or width change."""

    width: int
    out_dim: int
    attention: Callable[..., HaloAttention]
    norm: Callable[..., nn.GroupNorm]
    dtype: str
    stride: int = 1

    @nn.compact
    def __call__(self, x, rate=None, key=None):
        dense = partial(nn.Dense, use_bias=False, dtype=self.dtype)
        y = nn.relu(self.norm()(dense(self.width)(x)))
        y = nn.relu(self.norm()(self.attention(stride=self.stride, name="attention")(y)))
        y = self.norm()(dense(self.out_dim)(y))
        if self.stride > 1 or x.shape[-1] != self.out_dim:
            x = dense(self.out_dim, name="shortcut")(x[:, :: self.stride, :: self.stride])
            x = self.norm(name="shortcut_norm")(x)
        return nn.relu(x.astype(self.dtype) + y.astype(self.dtype))


class HaloNet(nn.Module):
    """Images [N, H, W, 3], float32 in [-1, 1] -> logits [N, num_classes], float32.

    num_classes=0 leaves the head out: features, float32, [N, final_dim], or if that is 0 of the
    last stage's width. There are as many stages as num_blocks has numbers, four in the paper's
    models. H and W may be any. Nothing is random: train=True changes nothing. dtype is that of the
    products; parameters, norms, softmax, pooling and head stay float32. scan and remat, within each
    stage: see `stack`.

    The models have no state, so the norms are of groups of 16 channels in one image, where the
    paper's are over the batch; the parameters are as many. Its authors' code is not public: block
    and halo sizes, ratios and depths are those on which two public transcriptions of the paper
    agree, the number of heads is one's. ReLU, the stem, where the norms stand and strided queries
    are as in timm, the attention's scale as in the authors' BoTNet. Of each table of relative
    positions halo_size rows at both ends are never used, but counted by all. Not established, and
    so not here, is "H4 (base 128, Conv-12)" of the Mixer paper's table 2: H4 with twice the width
    and convolutions in the first two stages has 70 million parameters, the published one 87.
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
    head_bias_init: float = 0.0
    dtype: str = "float32"
    scan: bool = False
    remat: str = "none"

    @nn.compact
    def __call__(self, images, train: bool = False):
        norm = partial(nn.GroupNorm, num_groups=None, group_size=16, dtype=jnp.float32)
        conv = partial(nn.Conv, 64, (7, 7), (2, 2), 3, use_bias=False, dtype=self.dtype)
        x = nn.relu(norm(name="stem_norm")(conv(name="stem")(images))).astype(self.dtype)
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        stages = zip(self.num_blocks, self.widths, self.num_heads, strict=False)
        for i, (blocks, width, heads) in enumerate(stages):
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
            first, name, rates = partial(block, stride=min(2, i + 1)), f"stage_{i}_block", [0.0]
            x = stack(self, first, name, x, rates, None)
            x = stack(self, block, name, x, rates * (blocks - 1), None, first=1)
        if self.final_dim:
            final = nn.Dense(self.final_dim, use_bias=False, dtype=self.dtype, name="final")
            x = nn.relu(norm(name="final_norm")(final(x)))
        return layers.head(self, x.mean(axis=(1, 2), dtype=jnp.float32))

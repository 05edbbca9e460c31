"""Dropout and stochastic depth: everything random in a model's training pass.

Every mask is drawn from an explicit key, folded with the place where the mask is used, never from
Flax's per-module key streams. So neither a scan over the blocks nor rematerialisation changes a
mask.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct


@struct.dataclass
class Noise:
    """The masks of one part of a model; `noise[i]` are those of its part i.

    A model's parts are its blocks, and a block's parts are its branches.

    Attributes:
      key: None in evaluation, where nothing is masked.
      rates: the probabilities of dropping branches, nested like the parts. They may be traced.
      dropout_rate: the probability with which a unit is dropped.
      rescale: whether branches that are kept are divided by the probability of keeping them.
    """

    key: jax.Array | None = None
    rates: Any = None
    dropout_rate: float = struct.field(pytree_node=False, default=0.0)
    rescale: bool = struct.field(pytree_node=False, default=True)

    def __getitem__(self, i: int) -> "Noise":
        return self.at(i, None if self.rates is None else self.rates[i])

    def at(self, place: int | jax.Array, rates: Any) -> "Noise":
        """The masks of part number `place`, which has these rates."""
        key = None if self.key is None else jax.random.fold_in(self.key, place)
        return self.replace(key=key, rates=rates)

    def dropout(self, x: jax.Array, place: int) -> jax.Array:
        """Sets each unit to zero with probability `dropout_rate`; divides the others by 1 - rate.

        `place` distinguishes the uses of one key.
        """
        if self.key is None or self.dropout_rate == 0:
            return x
        return self._kept(x, self.dropout_rate, place, x.shape)

    def stochastic_depth(self, x: jax.Array, place: int = 2) -> jax.Array:
        """Drops an example's whole branch [N, ...] with probability `rates`, here a single number.

        With `rescale`, branches that are kept are divided by 1 - rate, which preserves the
        expectation (Huang et al. 2016). `place` is as in `dropout`; an MLP uses 0 and 1.
        """
        if self.key is None or (isinstance(self.rates, float) and self.rates == 0):
            return x
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        return self._kept(x, self.rates, place, shape, self.rescale)

    def _kept(self, x, rate, place, shape, rescale=True):
        kept = jax.random.bernoulli(jax.random.fold_in(self.key, place), 1 - rate, shape)
        return jnp.where(kept, x / (1 - rate) if rescale else x, 0).astype(x.dtype)


NO_NOISE = Noise()


def noise_of(model: nn.Module, train: bool, rates: Any) -> Noise:
    """The masks of one call of a `model`, made within its compact call.

    Args:
      model: its fields `dropout`, `stochastic_depth` and `depth_rescale` are used if it has them.
        If they make anything random, its rng "dropout" is needed.
      rates: the probabilities of dropping its blocks' branches.
    """
    dropout = getattr(model, "dropout", 0.0)
    random = train and (dropout > 0 or model.stochastic_depth > 0)
    key = model.make_rng("dropout") if random else None
    return Noise(key, rates, dropout, getattr(model, "depth_rescale", True))


def depth_rates(last: float, num_blocks: int, ramp: str = "mlp") -> list[tuple[float, float]]:
    """The probabilities of dropping each block's two branches, from 0 to `last`.

    They rise linearly from branch to branch, as the paper says (`ramp="mlp"`: branch j of 2L has
    last * j / (2L - 1)), or from block to block, as in big_vision's code ("block": both branches of
    block i have last * i / (L - 1)).

    Raises:
      ValueError: another ramp.
    """
    if ramp not in ("mlp", "block"):
        raise ValueError(f"depth_ramp={ramp!r}: expected 'mlp' or 'block'")
    if ramp == "block":
        return [(last * i / max(1, num_blocks - 1),) * 2 for i in range(num_blocks)]
    slope = last / (2 * num_blocks - 1)
    return [(slope * 2 * i, slope * (2 * i + 1)) for i in range(num_blocks)]

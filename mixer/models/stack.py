"""A stack of equal blocks: one after the other or scanned, rematerialised or not.

Neither choice changes the parameters' tree (NAME_0, NAME_1, ...), their initial values or a
random mask, since keys fold in the block's number.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixer.models import layers

# What of a block, besides its input, is kept for the backward pass; the rest is computed again.
REMAT = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_saveable,  # the matrix products
    "full": jax.checkpoint_policies.nothing_saveable,
}


def stack(
    parent: nn.Module,
    block: Callable[..., nn.Module],
    name: str,
    x: jax.Array,
    rates: Sequence[Any],
    key: jax.Array | None = None,
    entry: Callable[..., nn.Module] | None = None,
) -> jax.Array:
    """Applies len(rates) blocks to x, within the compact call of `parent`.

    Args:
      parent: its field `scan` makes the blocks one loop, which is compiled once and runs over a
        copy of their parameters, [blocks, ...] each; `remat` is one of `REMAT`. With either, no
        intermediates of the blocks can be captured.
      block: keywords (name or parent) -> a module, called with (x, rate, key).
      rates: a tree of numbers for each block, the same everywhere; None where it takes none.
      key: None in evaluation.
      entry: as `block`, of the first one where it is another than the rest.

    Raises:
      ValueError: unknown `parent.remat`.
    """
    if parent.remat not in REMAT:
        raise ValueError(f"remat={parent.remat!r}: expected one of {', '.join(REMAT)}")
    numbers = range(len(rates))
    if entry:
        x = _run(parent, entry, name, x, rates, numbers[:1], key)
        numbers = numbers[1:]
    return _run(parent, block, name, x, rates, numbers, key)


def _run(parent, block, name, x, rates, numbers, key):
    names, rates = [f"{name}_{i}" for i in numbers], [rates[i] for i in numbers]
    scan = parent.scan and len(numbers) > 1
    if parent.is_initializing() or not (scan or parent.remat != "none"):
        for i, name, rate in zip(numbers, names, rates, strict=True):
            x = block(name=name)(x, rate, layers.fold_in(key, i))
        return x

    detached = block(parent=None)

    def apply(x, params, rate, i):
        return detached.apply({"params": params}, x, rate, layers.fold_in(key, i))

    if parent.remat != "none":
        apply = jax.checkpoint(apply, policy=REMAT[parent.remat], prevent_cse=not scan)
    params = [parent.variables["params"][name] for name in names]
    if not scan:
        for i, own, rate in zip(numbers, params, rates, strict=True):
            x = apply(x, own, rate, i)
        return x
    each = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(params, rates, strict=True))
    return jax.lax.scan(lambda x, own: (apply(x, *own), None), x, (*each, jnp.array(numbers)))[0]

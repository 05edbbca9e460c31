"""Applies a stack of identical blocks: in a Python loop or a scan, rematerialised or not.

Neither choice changes the parameter tree (NAME_0, NAME_1, ...), the initial values or a random
mask, since `noise[i]` folds in the block's number.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mixer.models.noise import Noise

# What is saved of a block, besides its input, for the backward pass; the rest is recomputed.
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
    noise: Noise,
    *each: Sequence[Any],
    entry: Callable[..., nn.Module] | None = None,
) -> jax.Array:
    """Applies a block for each of noise.rates to x, within the compact call of `parent`.

    Args:
      parent: with its field `scan`, the blocks are one loop, which is compiled once and runs over a
        stacked copy of their parameters, [blocks, ...]; `remat` is one of `REMAT`. With either, no
        intermediates of the blocks can be captured.
      block: keywords (name or parent) -> a module; number i is called with
        (x, noise[i], *(values[i] for values in each)).
      noise: its rates are a tree of numbers for each block, of the same structure; None if nothing
        is random.
      each: further arguments of the blocks, numbers or trees of numbers.
      entry: like `block`, for the first block if it differs from the rest.

    Raises:
      ValueError: `parent.remat` is unknown, or there is no block.
    """
    if not len(noise.rates):
        raise ValueError(f"num_blocks={parent.num_blocks}: expected 1 or more, in every stage")
    if parent.remat not in REMAT:
        raise ValueError(f"remat={parent.remat!r}: expected one of {', '.join(REMAT)}")
    numbers = range(len(noise.rates))
    if entry:
        x = _run(parent, entry, name, x, noise, each, numbers[:1])
        numbers = numbers[1:]
    return _run(parent, block, name, x, noise, each, numbers)


def _run(parent, block, name, x, noise, each, numbers):
    names, own = [f"{name}_{i}" for i in numbers], [tuple(v[i] for v in each) for i in numbers]
    scan = parent.scan and len(numbers) > 1
    if parent.is_initializing() or not (scan or parent.remat != "none"):
        for i, name, more in zip(numbers, names, own, strict=True):
            x = block(name=name)(x, noise[i], *more)
        return x

    detached = block(parent=None)

    def apply(x, params, more, rates, i):
        return detached.apply({"params": params}, x, noise.at(i, rates), *more)

    if parent.remat != "none":
        apply = jax.checkpoint(apply, policy=REMAT[parent.remat], prevent_cse=not scan)
    params = [parent.variables["params"][name] for name in names]
    blocks = list(zip(params, own, [noise.rates[i] for i in numbers], strict=True))
    if not scan:
        for i, one in zip(numbers, blocks, strict=True):
            x = apply(x, *one, i)
        return x
    all_blocks = jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)
    xs = (*all_blocks, jnp.array(numbers))
    return jax.lax.scan(lambda x, one: (apply(x, *one), None), x, xs)[0]

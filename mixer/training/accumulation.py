"""Gradient accumulation: the mean gradient of a batch, computed in one or more micro-batches."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def mean_gradient(
    objective: Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]],
    params: Any,
    rows: Any,
    key: jax.Array,
    micro_batches: int,
    place: Callable[[Any], Any],
) -> tuple[Any, jax.Array, Any]:
    """Averages the gradient over all rows of a batch.

    Micro-batch i of k takes rows i, k + i, 2k + i, ..., so that every row stays on its device.
    Contiguous micro-batches would have to move every row between devices.

    Args:
      objective: (params, rows, key) -> (mean over the rows, tree of sums over the rows).
      rows: tree of arrays [B, ...].
      key: of this step. With several micro-batches each one folds its number into it.
      micro_batches: k, a divisor of B.
      place: constrains the sharding of a tree that is shaped like the parameters.

    Returns:
      (mean gradient, mean of the objective, the sums), each over all B rows.
    """
    gradient = jax.value_and_grad(objective, has_aux=True)
    if micro_batches == 1:
        (value, sums), grads = gradient(params, rows, key)
        return place(grads), value, sums

    def one(i, own):
        (value, sums), grads = gradient(params, own, jax.random.fold_in(key, i))
        return place(grads), value, sums

    def add(total, part):
        grads, *others = jax.tree.map(jnp.add, total, one(*part))
        return (place(grads), *others), None

    parts = jnp.arange(micro_batches), _split(rows, micro_batches)
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, *first))
    (grads, value, sums), _ = jax.lax.scan(add, (place(zeros[0]), *zeros[1:]), parts)
    return jax.tree.map(lambda x: x / micro_batches, grads), value / micro_batches, sums


def in_parts(
    function: Callable[[jax.Array], jax.Array], rows: jax.Array, micro_batches: int
) -> jax.Array:
    """function(rows), where row b of the result depends on row b alone, in micro-batches.

    Args:
      rows: [B, ...].
      micro_batches: a divisor of B; row b is in the one in which `mean_gradient` has it.
    """
    if micro_batches == 1:
        return function(rows)
    found = jax.lax.map(function, _split(rows, micro_batches))
    return found.swapaxes(0, 1).reshape(len(rows), *found.shape[2:])


def _split(rows: Any, micro_batches: int) -> Any:
    """A tree of arrays [B, ...] -> [micro_batches, B / micro_batches, ...]."""

    def split(x):
        parts = x.reshape(len(x) // micro_batches, micro_batches, *x.shape[1:])
        return parts.swapaxes(0, 1)

    return jax.tree.map(split, rows)

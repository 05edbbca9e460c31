"""The mean gradient of a batch, all at once or one micro-batch after the other."""

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
    """(gradient, mean of the objective, sums of what else it counts) over all rows.

    Micro-batch i of k takes the rows i, k + i, 2k + i, ...: those that a device has anyway. Parts
    in a row would send every row through the network.

    Args:
      objective: (params, rows, key) -> (mean over the rows, a tree of sums over them).
      rows: a tree of arrays [B, ...].
      micro_batches: k, which divides B; with more than one each has a key of its own.
      place: where a tree like the parameters lies.
    """
    gradient = jax.value_and_grad(objective, has_aux=True)
    if micro_batches == 1:
        (value, sums), grads = gradient(params, rows, key)
        return place(grads), value, sums

    def split(x):
        parts = x.reshape(len(x) // micro_batches, micro_batches, *x.shape[1:])
        return parts.swapaxes(0, 1)

    def one(i, own):
        (value, sums), grads = gradient(params, own, jax.random.fold_in(key, i))
        return place(grads), value, sums

    def add(total, part):
        grads, *others = jax.tree.map(jnp.add, total, one(*part))
        return (place(grads), *others), None

    parts = jnp.arange(micro_batches), jax.tree.map(split, rows)
    first = jax.tree.map(lambda x: x[0], parts)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, *first))
    (grads, value, sums), _ = jax.lax.scan(add, (place(zeros[0]), *zeros[1:]), parts)
    return jax.tree.map(lambda x: x / micro_batches, grads), value / micro_batches, sums

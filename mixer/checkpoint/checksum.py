"""Sums over the bits of arrays, to notice what a disk or a network has altered."""

import jax
import jax.numpy as jnp


def _sum_of_bits(x: jax.Array) -> jax.Array:
    if x.dtype == jnp.bool_:
        words = x
    else:
        words = jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{min(x.dtype.itemsize, 4) * 8}"))
    return jnp.sum(words.astype(jnp.uint32), dtype=jnp.uint32)


@jax.jit
def _sums(leaves: list[jax.Array]) -> list[jax.Array]:
    return [_sum_of_bits(leaf) for leaf in leaves]


def checksums(tree) -> dict[str, int]:
    """{name of the leaf: sum of its bits as unsigned words, modulo 2^32}.

    Words have 32 bits, or the dtype's 8 or 16. Integers add up to the same in any order, so the
    sum, made on the devices, is the same on any mesh; any single flipped bit changes it.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    sums = jax.device_get(_sums([x for _, x in leaves]))
    return {name: int(value) for name, value in zip(names, sums, strict=True)}

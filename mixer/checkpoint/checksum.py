"""What proves that a checkpoint is what was written: sums over its arrays, a digest of its JSON."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp

from mixer import errors
from mixer.checkpoint.damage import DamagedCheckpoint

# The first had neither this number nor the digest. Raise it when an older program must not read
# what a newer one writes.
_FORMAT = 2


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


def guarded(meta: dict[str, Any]) -> dict[str, Any]:
    """`meta` with what `checked` needs."""
    meta = meta | {"format": _FORMAT}
    return meta | {"sha256": _digest(meta)}


def checked(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Inverse of `guarded`, after a disk.

    Args:
      where: for messages.

    Raises:
      DamagedCheckpoint: it is not what was written.
      BadInput: it was written by a newer version of this program.
    """
    meta = dict(content)
    digest, number = meta.pop("sha256", None), meta.get("format")
    if digest is None and number is None:
        return meta
    if digest != (found := _digest(meta)):
        raise DamagedCheckpoint(
            f"{where} was altered after it was written (sha256 {found}, saved {digest})"
        )
    if number > _FORMAT:
        raise errors.BadInput(
            f"{where} has format {number}, of a newer version of this program; this one reads up "
            f"to {_FORMAT}: use the newer one"
        )
    del meta["format"]
    return meta


def _digest(meta: dict[str, Any]) -> str:
    """Of one of the many spellings that JSON has for the same content."""
    # There and back: keys become strings, tuples lists.
    text = json.dumps(json.loads(json.dumps(meta)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

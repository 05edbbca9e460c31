"""Checksums that detect a damaged checkpoint: one per array, and a SHA-256 of its JSON meta."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp

from mixer import errors
from mixer.checkpoint.damage import DamagedCheckpoint

# Format version; the first format had no version and no digest. Raise it when older versions of
# this program must not read what newer ones write.
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
    """{leaf name: sum of its bits as unsigned words, modulo 2^32}.

    Words have 32 bits, or 8 or 16 if the dtype does. The sum is computed on the devices; integer
    addition is exact in any order, so every mesh gives the same sum. Any single flipped bit
    changes it.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    sums = jax.device_get(_sums([x for _, x in leaves]))
    return {name: int(value) for name, value in zip(names, sums, strict=True)}


def with_digest(meta: dict[str, Any]) -> dict[str, Any]:
    """`meta` with the format number and the digest that `verified` checks."""
    meta = meta | {"format": _FORMAT}
    return meta | {"sha256": _digest(meta)}


def verified(content: dict[str, Any], where: str) -> dict[str, Any]:
    """Checks what was read back from disk and returns the original meta: undoes `with_digest`.

    Args:
      where: names the file in error messages.

    Raises:
      DamagedCheckpoint: it differs from what was written.
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
            f"{where} has format {number}, written by a newer version of this program; this one "
            f"reads formats up to {_FORMAT}: use the newer version"
        )
    del meta["format"]
    return meta


def _digest(meta: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON text of `meta`: the same content can be written many ways."""
    # The round trip turns keys into strings and tuples into lists.
    text = json.dumps(json.loads(json.dumps(meta)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

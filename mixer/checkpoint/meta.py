"""The JSON that is saved with a checkpoint, with its SHA-256 and the number of its format."""

import hashlib
import json
from typing import Any

from mixer import errors
from mixer.checkpoint.damage import DamagedCheckpoint

# The first had neither this number nor the digest. Raise it when an older program must not read
# what a newer one writes.
_FORMAT = 2


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

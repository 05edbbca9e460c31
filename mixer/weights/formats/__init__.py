"""Reads and writes weights files, `.npz` and `.safetensors`: arrays by name, written atomically.

The sizes that a file claims are checked against its own size before memory is allocated, and
nothing that could run code (a pickle) is ever read.
"""

import os
import re
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save

from mixer import errors, storage
from mixer.weights.formats import npz, safetensors
from mixer.weights.formats.refusals import DAMAGE, PICKLES, from_torch, reason

__all__ = [
    "ENDINGS",
    "PICKLES",
    "ending",
    "from_torch",
    "gelu",
    "has_its_end",
    "image_size",
    "read",
    "sha256",
    "write",
]

ENDINGS = (".npz", ".safetensors")
# Metadata keys under which `write` records facts about the model in a .safetensors file.
_SIZE, _GELU = "image_size", "gelu"


def read(path: str) -> dict[str, np.ndarray]:
    """The file's arrays by name, floating-point numbers as float32.

    Raises:
      BadInput: the file does not exist, is damaged, is of another kind, or has pickled objects.
    """
    file, kind = Path(path).expanduser(), ending(path)
    if file.exists() and not file.is_file():  # reading a pipe would hang
        raise errors.BadInput(
            f"{str(path)!r} is not a readable {kind} file: it is not a regular file"
        )
    try:
        arrays = npz.read(file) if kind == ".npz" else safetensors.read(file)
    except FileNotFoundError:
        raise errors.BadInput(f"{str(path)!r}: there is no such file") from None
    except DAMAGE as error:
        why = reason(file, error)
        raise errors.BadInput(f"{str(path)!r} is not a readable {kind} file: {why}") from None
    with np.errstate(over="ignore"):  # an overflow gives infinity, which `fitting.compare` reports
        return {
            name: array.astype(np.float32, copy=False)
            if jnp.issubdtype(array.dtype, jnp.floating)
            else array
            for name, array in arrays.items()
        }


def sha256(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
      BadInput: it cannot be read.
    """
    try:
        return storage.sha256(path)
    except OSError as error:
        raise errors.BadInput(f"{str(path)!r} cannot be read: {error.strerror}") from None


def has_its_end(file: Path, kind: str) -> bool:
    """Whether a file of that `kind` (ending) is not truncated; reads no array."""
    if kind == ".npz":
        return zipfile.is_zipfile(file)  # the table of its members is at the end
    try:
        with safetensors.opened(file):  # the header, with the arrays' sizes, is at the start
            return True
    except DAMAGE:
        return False


def image_size(path: str) -> tuple[int, int] | None:
    """The (height, width) that `write` recorded in a file; None if there is no record."""
    match = re.fullmatch(r"([1-9]\d*) x ([1-9]\d*)", _metadata(path).get(_SIZE, ""))
    return match and (int(match[1]), int(match[2]))


def gelu(path: str) -> str | None:
    """The form of GELU that `write` recorded in a file; None if there is no record."""
    return _metadata(path).get(_GELU)


def _metadata(path: str) -> dict[str, str]:
    """A readable file's metadata; empty for an .npz file, which cannot have any."""
    if ending(path) == ".npz":
        return {}
    with safetensors.opened(Path(path).expanduser()) as content:
        return content.metadata() or {}


def write(
    path: str | os.PathLike[str],
    arrays: dict[str, np.ndarray],
    image_size: tuple[int, int] | None = None,
    gelu: str | None = None,
) -> None:
    """Writes the arrays as float32 to a file that appears complete or not at all.

    Args:
      image_size: (height, width) in pixels that they are for, if known.
      gelu: the model's form of GELU, if it has one. An .npz file cannot record either.

    Raises:
      BadInput: the path has another ending or cannot be written.
    """
    kind = ending(path)
    arrays = {name: np.asarray(array, np.float32, order="C") for name, array in arrays.items()}
    about = {"format": "pt"}
    about |= {_SIZE: "{} x {}".format(*image_size)} if image_size else {}
    about |= {_GELU: gelu} if gelu else {}
    try:
        with storage.write_whole(Path(path).expanduser()) as stream:
            if kind == ".npz":
                np.savez(stream, **arrays)
            else:
                stream.write(save(arrays, about))
    except storage.Unwritable as error:
        raise errors.BadInput(str(error)) from None


def ending(path: str | os.PathLike[str]) -> str:
    """The path's ending in lower case, one of `ENDINGS`.

    Raises:
      BadInput: it has another ending.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in ENDINGS:
        raise errors.BadInput(f"{str(path)!r}: expected a name ending in {' or '.join(ENDINGS)}")
    return suffix

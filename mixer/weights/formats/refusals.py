"""Explains why a weights file cannot be read, and how to fix it."""

import re
import shlex
import zipfile
import zlib
from pathlib import Path

import safetensors

PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
# What NumPy, zipfile and safetensors raise on damaged files or files of another kind.
DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
DAMAGE += (zipfile.BadZipFile, zlib.error, safetensors.SafetensorError)
# First bytes of files that have one of our endings by mistake, and what they are.
_FIRST_BYTES = (
    (b"version https://git-lfs", "it is a Git LFS pointer: git lfs pull fetches the file"),
    (b"PK\x03\x04", "it is a zip archive, as .npz files are"),
    (b"\x1f\x8b", "it is compressed: unpack it with gunzip"),
    (b"\x93NUMPY", "it is a single array (.npy), without a name"),
    (b"\x89HDF", "it is an HDF5 file"),
    (b"<", "it is a web page: use the address of the file itself"),
)
_FROM_TORCH = (
    "import sys, torch, safetensors.torch as s; "
    "w = torch.load(sys.argv[1], 'cpu', weights_only=True); "
    "w = w.get('state_dict', w.get('model', w)); "
    "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, sys.argv[2])"
)


class Unusable(ValueError):
    """An undamaged file of a kind that cannot be read here."""


def from_torch(path: str | Path, new: str | Path | None = None) -> str:
    """The command that converts a PyTorch pickle, which is never read here, to .safetensors."""
    files = shlex.join([str(path), str(new or Path(path).with_suffix(".safetensors"))])
    return f'convert it where PyTorch is installed: python -c "{_FROM_TORCH}" {files}'


def reason(file: Path, error: Exception) -> str:
    """The reason why a file could not be read, from its first bytes or the error."""
    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    with file.open("rb") as stream:
        start = stream.read(32)
    if not start:
        return "it is empty"
    for mark, meaning in _FIRST_BYTES:
        if start.startswith(mark) and not (mark == b"PK\x03\x04" and file.suffix.lower() == ".npz"):
            return meaning
    said = (str(error) or type(error).__name__).splitlines()[0]
    said = re.sub("^Error while deserializing( header)?: ", "", said)
    return f"{said} (it has {file.stat().st_size:,} bytes: is it complete?)"

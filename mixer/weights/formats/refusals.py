"""Why a file of weights cannot be read, and what mends it."""

import re
import shlex
import zipfile
import zlib
from pathlib import Path

import safetensors

PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
# What NumPy, zipfile and safetensors raise on bytes that are no such file.
DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
DAMAGE += (zipfile.BadZipFile, zlib.error, safetensors.SafetensorError)
# How files begin that have one of our endings by mistake, and what they are.
_OTHERS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS: git lfs pull fetches the file"),
    (b"PK\x03\x04", "it is a zip archive, as .npz files are"),
    (b"\x1f\x8b", "it is compressed: unpack it with gunzip"),
    (b"\x93NUMPY", "it is a single array (.npy), without a name"),
    (b"\x89HDF", "it is an HDF5 file"),
    (b"<", "it is a web page: take the address of the file itself"),
)
_FROM_TORCH = (
    "import sys, torch, safetensors.torch as s; "
    "w = torch.load(sys.argv[1], 'cpu', weights_only=True); "
    "w = w.get('state_dict', w.get('model', w)); "
    "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, sys.argv[2])"
)


class Unusable(ValueError):
    """A whole file, but none that can be read here."""


def from_torch(path: str | Path, new: str | Path | None = None) -> str:
    """How to make a file for us of a pickle of PyTorch's, which is never read here."""
    files = shlex.join([str(path), str(new or Path(path).with_suffix(".safetensors"))])
    return f'convert it where PyTorch is installed: python -c "{_FROM_TORCH}" {files}'


def reason(file: Path, error: Exception) -> str:
    """What is wrong with a file that could not be read."""
    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    with file.open("rb") as stream:
        start = stream.read(32)
    if not start:
        return "it is empty"
    for mark, meaning in _OTHERS:
        if start.startswith(mark) and not (mark == b"PK\x03\x04" and file.suffix.lower() == ".npz"):
            return meaning
    said = (str(error) or type(error).__name__).splitlines()[0]
    said = re.sub("^Error while deserializing( header)?: ", "", said)
    return f"{said} (it has {file.stat().st_size:,} bytes: is it complete?)"

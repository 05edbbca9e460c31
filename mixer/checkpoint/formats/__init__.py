"""Named arrays in one file: `.npz` and `.safetensors`; written whole or not at all.

What a file claims to hold is checked against its size before memory is asked for, and nothing that
could run code (a pickle) is ever read.
"""

import hashlib
import math
import re
import shlex
import zipfile
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

from mixer import errors, storage

ENDINGS = (".npz", ".safetensors")
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")
# What NumPy, zipfile and safetensors raise on bytes that are no such file.
_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_DAMAGE += (zipfile.BadZipFile, zlib.error, safetensors.SafetensorError)
# How files begin that have one of our endings by mistake, and what they are.
_OTHERS = (
    (b"version https://git-lfs", "it is a pointer of Git LFS: git lfs pull fetches the file"),
    (b"PK\x03\x04", "it is a zip archive, as .npz files are"),
    (b"\x1f\x8b", "it is compressed: unpack it with gunzip"),
    (b"\x93NUMPY", "it is a single array (.npy), without a name"),
    (b"\x89HDF", "it is an HDF5 file"),
    (b"<", "it is a web page: take the address of the file itself"),
)
# A byte of a compressed member stands for at most so many.
_EXPANSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
_FROM_TORCH = (
    "import sys, torch, safetensors.torch as s; "
    "w = torch.load(sys.argv[1], 'cpu', weights_only=True); "
    "w = w.get('state_dict', w.get('model', w)); "
    "s.save_file({k: v.clone().contiguous() for k, v in w.items()}, sys.argv[2])"
)


class _Unusable(ValueError):
    """A whole file, but none that can be read here."""


def read(path: str) -> dict[str, np.ndarray]:
    """The file's arrays by name, floating-point numbers as float32.

    Two bytes without a dtype are a bfloat16: NumPy stores it so.

    Raises:
      BadInput: no such file, a damaged one, one of another kind, or pickled objects.
    """
    file, kind = Path(path).expanduser(), ending(path)
    if file.exists() and not file.is_file():  # a pipe would be waited for
        raise errors.BadInput(f"{str(path)!r} is no readable {kind} file: it is no file")
    try:
        arrays = _read_npz(file) if kind == ".npz" else _read_safetensors(file)
    except FileNotFoundError:
        raise errors.BadInput(f"{str(path)!r}: there is no such file") from None
    except _DAMAGE as error:
        why = _why(file, error)
        raise errors.BadInput(f"{str(path)!r} is no readable {kind} file: {why}") from None
    with np.errstate(over="ignore"):  # infinite then, which `fitting.compare` names
        return {
            name: array.astype(np.float32, copy=False)
            if jnp.issubdtype(array.dtype, jnp.floating)
            else array
            for name, array in arrays.items()
        }


def sha256(path: str) -> str:
    """Of the bytes of a file, in hexadecimal digits.

    Raises:
      BadInput: it cannot be read.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise errors.BadInput(f"{str(path)!r} cannot be read: {error.strerror}") from None


def has_its_end(file: Path, kind: str) -> bool:
    """Whether the end of a file of that ending is there; no array is read."""
    if kind == ".npz":
        return zipfile.is_zipfile(file)  # the table of its members comes last
    try:
        with _open_safetensors(file):  # the sizes of its arrays come first
            return True
    except _DAMAGE:
        return False


def metadata(path: str) -> dict[str, str]:
    """What a readable file says of itself; nothing if it is an .npz, which has no place for it."""
    if ending(path) == ".npz":
        return {}
    with _open_safetensors(Path(path).expanduser()) as content:
        return content.metadata() or {}


def write(path: str, arrays: dict[str, np.ndarray], about: dict[str, str] | None = None) -> None:
    """Writes the arrays as float32 to a file that appears complete or not at all.

    Args:
      about: for `metadata`; an .npz file goes without.

    Raises:
      BadInput: another ending, or a place that cannot be written.
    """
    kind = ending(path)
    arrays = {name: np.asarray(array, np.float32, order="C") for name, array in arrays.items()}
    try:
        with storage.write_whole(Path(path).expanduser()) as stream:
            if kind == ".npz":
                np.savez(stream, **arrays)
            else:
                stream.write(safetensors.numpy.save(arrays, {"format": "pt"} | (about or {})))
    except storage.Unwritable as error:
        raise errors.BadInput(str(error)) from None


def ending(path: str) -> str:
    """The name's ending in small letters, one of `ENDINGS`.

    Raises:
      BadInput: another.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in ENDINGS:
        raise errors.BadInput(f"{str(path)!r}: expected a name ending in {' or '.join(ENDINGS)}")
    return suffix


def from_torch(path: str | Path, new: str | Path | None = None) -> str:
    """How to make a file for us of a pickle of PyTorch's, which is never read here."""
    files = shlex.join([str(path), str(new or Path(path).with_suffix(ENDINGS[1]))])
    return f'convert it where PyTorch is installed: python -c "{_FROM_TORCH}" {files}'


def _why(file: Path, error: Exception) -> str:
    """What is wrong with a file that could not be read."""
    if isinstance(error, _Unusable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    with file.open("rb") as stream:
        start = stream.read(32)
    if not start:
        return "it is empty"
    for mark, meaning in _OTHERS:
        if start.startswith(mark) and not (mark == b"PK\x03\x04" and ending(file) == ".npz"):
            return meaning
    reason = (str(error) or type(error).__name__).splitlines()[0]
    reason = re.sub("^Error while deserializing( header)?: ", "", reason)
    return f"{reason} (it has {file.stat().st_size:,} bytes: is it complete?)"


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    found, size = {}, file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name.endswith("/data.pkl"):
                raise _Unusable(f"it is a pickle of PyTorch's; {from_torch(file)}")
            if name == member.filename:
                raise _Unusable(f"{name} in it is no array")
            if name in found:
                raise _Unusable(f"{name} is in it twice")
            if member.compress_type not in _EXPANSION:
                raise _Unusable(f"{name} is compressed in a way that NumPy does not use")
            held = min(member.compress_size, size) * _EXPANSION[member.compress_type]
            with archive.open(member) as stream:
                dtype, count = _header(stream, name)
                claimed = count * dtype.itemsize
                if claimed != member.file_size - stream.tell() or claimed > held:
                    raise ValueError(
                        f"{name} should have {claimed:,} bytes, and they are not in the file"
                    )
                stream.seek(0)
                array = np.lib.format.read_array(stream, allow_pickle=False)
            found[name] = array.view(jnp.bfloat16) if dtype == np.dtype("V2") else array
    return found


def _header(stream, name: str) -> tuple[np.dtype, int]:
    """Of an array in an .npy file: its dtype, and of how many numbers it is said to be."""
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(stream)
    except (ValueError, KeyError):
        # NumPy's own words advise to trust the file.
        raise ValueError(f"the header of {name} cannot be understood") from None
    if dtype.hasobject:
        raise _Unusable(f"{name} is pickled objects, which are never read: save it as numbers")
    return dtype, math.prod(shape)


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    found = {}
    with _open_safetensors(file) as content:
        for name in content.keys():  # noqa: SIM118 it is no dict
            dtype = content.get_slice(name).get_dtype()
            if dtype not in _DTYPES:
                raise _Unusable(f"{name} is of dtype {dtype}, expected {', '.join(_DTYPES)}")
            found[name] = content.get_tensor(name)
    return found


def _open_safetensors(file: Path) -> safetensors.safe_open:
    # Read, not mapped: of a mapped file that a disk cannot read, the system kills the process.
    return safetensors.safe_open(file, "numpy", backend="pread")

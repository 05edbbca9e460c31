"""Named arrays in one file: `.npz` and `.safetensors`; written whole or not at all.

A `.safetensors` file is 8 bytes with the header's length n (little-endian), n bytes of JSON,
{name: {"dtype", "shape", "data_offsets": [begin, end]}}, and the arrays' bytes, row-major and
little-endian, without gaps. It is so simple that reading it here needs no package.
"""

import json
import math
import zipfile
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mixer import errors

ENDINGS = (".npz", ".safetensors")
_DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16}
# What NumPy, zipfile and json raise on bytes that are no such file.
_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
_DAMAGE += (zipfile.BadZipFile, zlib.error)


def read(path: str) -> dict[str, np.ndarray]:
    """The file's arrays as float32, by name; a pickle is never read.

    Raises:
      BadInput: no such file, a damaged one, pickled objects, or arrays that are no
        floating-point numbers.
    """
    file = Path(path).expanduser()
    reader = _read_npz if ending(path) == ".npz" else _read_safetensors
    try:
        arrays = reader(file)
    except FileNotFoundError:
        raise errors.BadInput(f"{str(path)!r}: there is no such file") from None
    except _DAMAGE as error:
        line = (str(error) or type(error).__name__).splitlines()[0]
        raise errors.BadInput(f"{str(path)!r} is no readable {file.suffix} file: {line}") from None
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise errors.BadInput(
                f"{str(path)!r}: {name} is of dtype {array.dtype}, expected floating point"
            )
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def write(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes the arrays to a file that appears complete or not at all.

    Raises:
      BadInput: another ending, or a place that cannot be written.
    """
    file = Path(path).expanduser()
    writer = _write_npz if ending(path) == ".npz" else _write_safetensors
    beside = file.with_name(f".{file.name}.incomplete")
    try:
        with beside.open("wb") as stream:
            writer(stream, {name: np.asarray(array, order="C") for name, array in arrays.items()})
        beside.replace(file)
    except OSError as error:
        raise errors.BadInput(f"{str(path)!r} cannot be written: {error}") from None


def ending(path: str) -> str:
    """The name's ending, one of `ENDINGS`.

    Raises:
      BadInput: another.
    """
    suffix = Path(path).suffix
    if suffix not in ENDINGS:
        raise errors.BadInput(f"{str(path)!r}: expected a name ending in {' or '.join(ENDINGS)}")
    return suffix


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
        return {name: content[name] for name in content}


def _write_npz(stream, arrays: dict[str, np.ndarray]) -> None:
    np.savez(stream, **arrays)


def _read_safetensors(file: Path) -> dict[str, np.ndarray]:
    content = memoryview(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    if len(content) < start:
        raise ValueError(f"its header would end at byte {start}, the file has {len(content)}")
    header = json.loads(bytes(content[8:start]))
    header.pop("__metadata__", None)
    arrays, expected = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        (begin, end), shape = entry["data_offsets"], entry["shape"]
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name} is of dtype {entry['dtype']}, expected {', '.join(_DTYPES)}")
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        if begin != expected or end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"bytes {begin} to {end} are not those of {name}, {shape}")
        if start + end > len(content):
            raise ValueError(f"{name} would end at byte {start + end}, it has {len(content)}")
        arrays[name] = np.frombuffer(content[start + begin : start + end], dtype).reshape(shape)
        expected = end
    if start + expected != len(content):
        raise ValueError(f"{len(content) - start - expected} bytes belong to no array")
    return arrays


def _write_safetensors(stream, arrays: dict[str, np.ndarray]) -> None:
    header, begin = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        end = begin + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8 bytes
    stream.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        stream.write(array.astype("<f4").tobytes())

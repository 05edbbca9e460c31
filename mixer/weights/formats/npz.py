"""Reads an .npz file. The sizes that it claims are checked before memory is allocated."""

import math
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mixer.weights.formats.refusals import Unusable, from_torch

# The most bytes that one byte of a compressed member can expand to.
_EXPANSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}


def read(file: Path) -> dict[str, np.ndarray]:
    """The file's arrays. A two-byte void dtype is bfloat16, as NumPy stores it."""
    found, size = {}, file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name.endswith("/data.pkl"):
                raise Unusable(f"it is a PyTorch pickle; {from_torch(file)}")
            if name == member.filename:
                raise Unusable(f"its member {name} is not an array")
            if name in found:
                raise Unusable(f"{name} is in it twice")
            if member.compress_type not in _EXPANSION:
                raise Unusable(f"{name} is compressed in a way that NumPy does not use")
            held = min(member.compress_size, size) * _EXPANSION[member.compress_type]
            with archive.open(member) as stream:
                dtype, count = _header(stream, name)
                claimed = count * dtype.itemsize
                if claimed != member.file_size - stream.tell() or claimed > held:
                    raise ValueError(
                        f"{name} should have {claimed:,} bytes, but they are not in the file"
                    )
                stream.seek(0)
                array = np.lib.format.read_array(stream, allow_pickle=False)
            found[name] = array.view(jnp.bfloat16) if dtype == np.dtype("V2") else array
    return found


def _header(stream, name: str) -> tuple[np.dtype, int]:
    """The dtype and the number of elements that the header of an .npy file claims."""
    try:
        version = np.lib.format.read_magic(stream)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = reader(stream)
    except (ValueError, KeyError):
        # NumPy's own message advises trusting the file.
        raise ValueError(f"the header of {name} cannot be parsed") from None
    if dtype.hasobject:
        raise Unusable(f"{name} has pickled objects, which are never read: save it as numbers")
    return dtype, math.prod(shape)

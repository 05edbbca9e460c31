"""Arrays in an .npz file. What it claims to hold is checked before memory is asked for."""

import math
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from mixer.weights.formats.refusals import Unusable, from_torch

# A byte of a compressed member stands for at most so many.
_EXPANSION = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}


def read(file: Path) -> dict[str, np.ndarray]:
    """Its arrays. Two bytes without a dtype are a bfloat16: NumPy stores it so."""
    found, size = {}, file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name.endswith("/data.pkl"):
                raise Unusable(f"it is a pickle of PyTorch's; {from_torch(file)}")
            if name == member.filename:
                raise Unusable(f"{name} in it is no array")
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
        raise Unusable(f"{name} is pickled objects, which are never read: save it as numbers")
    return dtype, math.prod(shape)

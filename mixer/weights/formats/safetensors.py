"""Reads a .safetensors file with the format's own library."""

from pathlib import Path

import numpy as np
import safetensors

from mixer.weights.formats.refusals import Unusable

_DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def read(file: Path) -> dict[str, np.ndarray]:
    """The file's arrays, with one copy of each in memory."""
    found = {}
    with opened(file) as content:
        for name in content.keys():  # noqa: SIM118 it is not a dict
            dtype = content.get_slice(name).get_dtype()
            if dtype not in _DTYPES:
                raise Unusable(f"{name} is of dtype {dtype}, expected {', '.join(_DTYPES)}")
            found[name] = content.get_tensor(name)
    return found


def opened(file: Path) -> safetensors.safe_open:
    """The file with only its header read; arrays are read on request."""
    # Not memory-mapped: if the disk cannot read a mapped file, the system kills the process.
    return safetensors.safe_open(file, "numpy", backend="pread")

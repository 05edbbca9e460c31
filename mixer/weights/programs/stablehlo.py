"""StableHLO by jax.export: JAX alone runs it, on a CPU, GPU or TPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mixer import errors, storage

USE = "jax.export.deserialize(open(PATH, 'rb').read()).call(images)"
BATCH = "batch"  # any number
_PLATFORMS = ("cpu", "cuda", "tpu")


def check() -> None:
    """See `programs.Format`."""
    try:
        import flatbuffers  # noqa: F401 by which jax.export writes
    except ImportError:
        raise errors.needs_package("a .stablehlo file", "flatbuffers", "stablehlo") from None


def write(path: Path, function: Callable, params: Any, shape: tuple[int, int, int]) -> None:
    """See `programs.Format`."""
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    with_params = jax.jit(lambda images: function(params, images))
    exported = jax.export.export(with_params, platforms=_PLATFORMS)(images)
    with storage.write_whole(path) as file:
        file.write(exported.serialize())


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """See `programs.Format`."""
    return np.asarray(jax.export.deserialize(path.read_bytes()).call(images))

"""Refuses to compute on the CPU where an accelerator was asked for."""

import importlib.util
import os

import jax
from jax._src import hardware_utils

from mixer import errors

# Who installs one of these asks for the accelerator.
_CUDA = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def check() -> None:
    """Begins to use the devices.

    Raises:
      BadInput: JAX came up with the CPU, though JAX_PLATFORMS names something else, or though an
        accelerator and its packages are there.
    """
    asked = os.environ.get("JAX_PLATFORMS", "").split(",")[0]
    if asked == "cpu":
        return
    try:
        found, reason = jax.default_backend(), ""
    except (RuntimeError, AssertionError) as error:
        found, reason = "cpu", f" ({str(error).splitlines()[0]})" if str(error) else ""
    if found != "cpu":
        return
    if asked:
        raise errors.BadInput(
            f"JAX_PLATFORMS={asked}, but JAX finds only the CPU{reason}: install "
            f"requirements-cuda.txt or requirements-tpu.txt, or set JAX_PLATFORMS=cpu"
        )
    here = _accelerator()
    if here:
        raise errors.BadInput(
            f"{here} is here and its packages are installed, but JAX came up with the CPU: see its "
            f"warning above (a driver too old, or devices that another process holds), or set "
            f"JAX_PLATFORMS=cpu to train on the CPU"
        )


def _accelerator() -> str:
    has = importlib.util.find_spec
    if hardware_utils.has_visible_nvidia_gpu() and any(map(has, _CUDA)):
        return "an NVIDIA GPU"
    if hardware_utils.num_available_tpu_chips_and_device_id()[0] and has("libtpu"):
        return "a TPU"
    return ""

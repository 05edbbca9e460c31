"""Refuses to compute on other devices than were asked for."""

import importlib.util
import os
from pathlib import Path

import jax

from mixer import errors

# Who installs one of these asks for the accelerator.
_PACKAGES = {"NVIDIA GPU": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "TPU": ("libtpu",)}


def check(processes: int) -> None:
    """Begins to use the devices.

    Args:
      processes: how many have met.

    Raises:
      BadInput: JAX came up with the CPU, though JAX_PLATFORMS names something else, or though an
        accelerator and its packages are there; or see `check_shared`.
    """
    _check_platform()
    check_shared(processes)


def check_shared(processes: int) -> None:
    """Refuses to compute with a part of a slice whose other hosts are not there.

    Raises:
      BadInput: the devices are those of more processes than have met, or of fewer.
    """
    if (needed := jax.process_count()) != processes:
        raise errors.BadInput(
            f"the devices here are those of {needed} processes, but {processes} have met: start "
            f"the command on all {needed} hosts, with --coordinator=HOST:PORT, "
            f"--num_processes={needed} and --process_id where JAX does not find them by itself"
        )


def _check_platform() -> None:
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
    here = accelerator()
    if here and any(map(importlib.util.find_spec, _PACKAGES[here])):
        raise errors.BadInput(
            f"a {here} and its packages are here, but JAX came up with the CPU: see its warning "
            f"above (a driver too old, or devices that another process holds), or set "
            f"JAX_PLATFORMS=cpu to train on the CPU"
        )


def accelerator(root: Path = Path("/")) -> str | None:
    """What this machine has by its device files, whatever JAX sees: TPU, NVIDIA GPU or none.

    Args:
      root: where `dev` and `sys` lie.
    """
    if any(root.glob("dev/nvidia[0-9]*")):
        return "NVIDIA GPU"
    vendors = root.glob("sys/bus/pci/devices/*/vendor")
    google = any(path.read_text().strip() == "0x1ae0" for path in vendors)
    if any(root.glob("dev/accel[0-9]*")) or (google and any(root.glob("dev/vfio/[0-9]*"))):
        return "TPU"
    return None

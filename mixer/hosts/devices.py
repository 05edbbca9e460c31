"""Refuses to compute on devices that the user did not ask for, such as the CPU of a GPU machine."""

import importlib.util
import os
from pathlib import Path

import jax

from mixer import errors

# Whoever installs one of these packages wants to use the accelerator.
_PACKAGES = {"NVIDIA GPU": ("jax_cuda12_plugin", "jax_cuda13_plugin"), "TPU": ("libtpu",)}


def check(processes: int) -> None:
    """Initializes JAX's devices and checks them.

    Args:
      processes: how many processes have joined the run.

    Raises:
      BadInput: JAX uses the CPU although JAX_PLATFORMS names something else, or although an
        accelerator and its packages are present; or see `check_process_count`.
    """
    _check_platform()
    check_process_count(processes)


def check_process_count(processes: int) -> None:
    """Refuses to compute on a TPU slice unless the processes of all its hosts have joined.

    Raises:
      BadInput: the devices belong to another number of processes.
    """
    if (needed := jax.process_count()) != processes:
        raise errors.BadInput(
            f"the devices here belong to {needed} processes, but {processes} have joined: start "
            f"the command on all {needed} hosts, with --coordinator=HOST:PORT, "
            f"--num_processes={needed} and --process_id if JAX does not find them by itself"
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
            f"a {here} and its packages are here, but JAX uses the CPU: see its warning above (the "
            f"driver may be too old, or another process may hold the devices), or set "
            f"JAX_PLATFORMS=cpu to train on the CPU"
        )


def accelerator(root: Path = Path("/")) -> str | None:
    """Returns "TPU", "NVIDIA GPU" or None, by the machine's device files, whatever JAX sees.

    Args:
      root: folder of `dev` and `sys`.
    """
    if any(root.glob("dev/nvidia[0-9]*")):
        return "NVIDIA GPU"
    vendors = root.glob("sys/bus/pci/devices/*/vendor")
    google = any(path.read_text().strip() == "0x1ae0" for path in vendors)
    if any(root.glob("dev/accel[0-9]*")) or (google and any(root.glob("dev/vfio/[0-9]*"))):
        return "TPU"
    return None

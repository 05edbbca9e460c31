"""TPU slices as the TPU compiler knows them: devices that need not be there."""

import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache

from mixer import errors

# By the name of a generation in Cloud TPU: its name for the compiler, the TensorCores that the
# number in the slice's name counts per chip, and the dimensions of its network.
_GENERATIONS = {
    "v2": ("v2", 2, 2),
    "v3": ("v3", 2, 2),
    "v4": ("v4", 2, 3),
    "v5litepod": ("v5e", 1, 2),
    "v5e": ("v5e", 1, 2),
    "v5p": ("v5p", 2, 3),
    "v6e": ("v6e", 1, 2),
    "tpu7x": ("tpu7x", 2, 3),
}
_EXPECTED = (
    "a slice as Cloud TPU names it, such as v3-32, v4-32, v5litepod-16, v5p-32, v6e-64 or "
    "tpu7x-64, or a generation and its grid of chips, such as v3:4x4 or v4:2x2x4. For GPUs, "
    "config.run=show estimates a step without compiling it, with config.plan.topology=H100-8"
)


def topology(name: str) -> str:
    """The compiler's name of a slice, GENERATION:GRID, from that or from Cloud TPU's name.

    Raises:
      BadInput: another form, or a number of chips that no slice has.
    """
    if ":" in name:
        return name
    found = re.fullmatch(r"([a-z0-9]+)-(\d+)", name)
    if not found or found[1] not in _GENERATIONS:
        raise errors.BadInput(f"config.plan.topology={name!r}: expected {_EXPECTED}")
    generation, cores, dimensions = _GENERATIONS[found[1]]
    chips, rest = divmod(int(found[2]), cores)
    doublings = chips.bit_length() - 1
    if rest or chips != 2**doublings or chips < 4:
        counted = "TensorCores, two a chip" if cores == 2 else "chips"
        raise errors.BadInput(
            f"config.plan.topology={name!r}: {found[1]} counts {counted}, and the slices known "
            f"here have 4, 8, 16, ... chips"
        )
    # Sides that are powers of two and differ at most by a factor of two, the longest last; a slice
    # of one host is flat.
    sides = [2 ** ((doublings + place) // dimensions) for place in range(dimensions)]
    sides = [2, 2, 1] if (dimensions, chips) == (3, 4) else sides
    return f"{generation}:{'x'.join(map(str, sides))}"


def product_name(name: str) -> str:
    """Cloud TPU's name of GENERATION:GRID, such as v3-32 for v3:4x4; another name stays as it is.

    Raises:
      BadInput: an unknown generation, or no grid.
    """
    generation, colon, grid = name.partition(":")
    if not colon:
        return name
    counted = {compiler: cores for compiler, cores, _ in _GENERATIONS.values()}
    if generation not in counted or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", grid):
        raise errors.BadInput(f"config.plan.topology={name!r}: expected {_EXPECTED}")
    return f"{generation}-{counted[generation] * math.prod(map(int, grid.split('x')))}"


def devices(name: str, slices: int = 1) -> list[jax.Device]:
    """The devices of `slices` slices, joined by the slower network of the data centre.

    Raises:
      BadInput: an unknown slice, or the compiler is not installed.
    """
    asked = topology(name)
    if importlib.util.find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise errors.BadInput(
            f"config.plan.topology={name} needs the TPU compiler, which runs on any Linux machine: "
            f"pip install -r requirements-tpu-plan.txt"
        )
    jax.config.update("jax_platforms", "cpu")
    # JAX can write a program for devices that are not there to its cache, but not read it.
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    # Only the compiler is used: it must not query the cloud's metadata server or claim a chip.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v3-8")
    # Cloud TPU runs both cores of a v4 chip as one device.
    options = {"chip_config_name": "megacore"} if asked.startswith("v4:") else {}
    if slices > 1:
        options["num_slices"] = slices
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=asked, **options)
    except Exception as error:
        raise errors.BadInput(
            f"config.plan.topology={name!r}: {str(error).splitlines()[0]}. Expected {_EXPECTED}"
        ) from None
    return found.devices

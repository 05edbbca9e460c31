"""Peak FLOP/s and memory of TPUs and GPUs, from their makers' figures."""

import dataclasses

import jax

from mixer import errors

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Peak:
    """The peak of one JAX device.

    Attributes:
      flops: FLOP/s of dense bfloat16 matrix products that accumulate in float32.
      memory: bytes that a program can use; for a GPU, all its memory.
    """

    flops: float
    memory: int


# Peaks of one TensorCore, by `device_kind`. Cloud TPU's pages on v3 to v6e give figures per chip;
# chips of v2, v3, v4 and v5p have two cores. v2: Jouppi et al. 2020, "A Domain-Specific
# Supercomputer", 46 TFLOP/s per chip. Memory is what the TPU compiler (libtpu 0.0.42) leaves to
# programs, according to its out-of-memory errors.
_TPU_CORES = {
    "TPU v2": Peak(23e12, int(7.48 * _GIB)),
    "TPU v3": Peak(61.5e12, int(15.48 * _GIB)),
    "TPU v4": Peak(137.5e12, int(30.75 / 2 * _GIB)),
    "TPU v5 lite": Peak(197e12, int(15.75 * _GIB)),  # v5e
    "TPU v5": Peak(229.5e12, int(95.74 / 2 * _GIB)),  # v5p
    "TPU v6 lite": Peak(918e12, int(31.25 * _GIB)),  # v6e
}
# From NVIDIA's data sheets; where these count sparse products, half of that.
_A100, _A100_80 = Peak(312e12, 40 * 10**9), Peak(312e12, 80 * 10**9)
_GPUS = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _A100_80,
    "NVIDIA A100 80GB PCIe": _A100_80,
    "NVIDIA H100 80GB HBM3": Peak(989e12, 80 * 10**9),
    "NVIDIA H200": Peak(989e12, 141 * 10**9),
}


def peak(device: jax.Device) -> Peak | None:
    """The peak of a device; None if unknown.

    A JAX device is one TensorCore of a TPU v2 or v3, both of a v5p chip, and one of a v4 chip or,
    on Cloud TPU (megacore), both. `device.num_cores` tells how many.
    """
    if device.device_kind in _TPU_CORES:
        core = _TPU_CORES[device.device_kind]
        return Peak(core.flops * device.num_cores, core.memory * device.num_cores)
    return _GPUS.get(device.device_kind)


# By the first part of an accelerator's name in a cloud's catalogue.
_CATALOGUE = {
    "v2": _TPU_CORES["TPU v2"],
    "v3": _TPU_CORES["TPU v3"],
    "v4": _TPU_CORES["TPU v4"],
    "v5p": _TPU_CORES["TPU v5"],
    "v5e": _TPU_CORES["TPU v5 lite"],
    "v6e": _TPU_CORES["TPU v6 lite"],
    "A100": _A100,
    "H100": _GPUS["NVIDIA H100 80GB HBM3"],
    "H200": _GPUS["NVIDIA H200"],
}


def by_product_name(name: str) -> tuple[Peak, int]:
    """(peak of one, number of them) for a product name such as "v3-8" or "H100".

    The number counts TensorCores for v2, v3, v4 and v5p, chips for v5e and v6e, or GPUs.

    Raises:
      BadInput: unknown accelerator.
    """
    kind, _, count = name.partition("-")
    if kind not in _CATALOGUE or not (count or "1").isdigit() or count == "0":
        raise errors.unknown("accelerator", name, _CATALOGUE, "Append their number, as in v3-8.")
    return _CATALOGUE[kind], int(count or 1)

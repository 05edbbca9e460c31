"""Peak FLOP/s, memory and its bandwidth of TPUs and GPUs, from their makers' figures."""

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
      bandwidth: bytes a second between this memory and the chip.
      on_chip: bytes of an activation of which the compiler keeps nothing on the chip; 0 if it never
        does. See `step_time.accessed`.
      platform: of `jax.Device`.
    """

    flops: float
    memory: int
    bandwidth: float
    on_chip: float
    platform: str = "tpu"


# Peaks of one TensorCore, by `device_kind`. Cloud TPU's pages on v3 to TPU7x give figures per chip;
# chips of v2, v3, v4, v5p and TPU7x have two cores. v2: Jouppi et al. 2020, "A Domain-Specific
# Supercomputer", 46 TFLOP/s and 700 GB/s per chip. Memory is what the TPU compiler (libtpu 0.0.42)
# leaves to programs, according to its out-of-memory errors; of a TPU7x, for which it was not asked,
# all there is. `on_chip` fits the compiled steps of the Mixers on v3, v5e and v6e
# (docs/results/plans.csv); for the others it is that of the nearest of these.
_V5E, _V6E = 130e6, 220e6
_TPU_CORES = {
    "TPU v2": Peak(23e12, int(7.48 * _GIB), 350e9, 0),
    "TPU v3": Peak(61.5e12, int(15.48 * _GIB), 450e9, 0),
    "TPU v4": Peak(137.5e12, int(30.75 / 2 * _GIB), 600e9, _V5E),
    "TPU v5 lite": Peak(197e12, int(15.75 * _GIB), 819e9, _V5E),  # v5e
    "TPU v5": Peak(229.5e12, int(95.74 / 2 * _GIB), 2765e9 / 2, _V5E),  # v5p
    "TPU v6 lite": Peak(918e12, int(31.25 * _GIB), 1640e9, _V6E),  # v6e
    "TPU7x": Peak(2307e12 / 2, 96 * _GIB, 7380e9 / 2, _V6E),
}


def _gpu(flops: float, memory: int, bandwidth: float) -> Peak:
    # Taken to keep nothing on the chip; not measured.
    return Peak(flops, memory, bandwidth, 0, "gpu")


# From NVIDIA's data sheets; where these count sparse products, half of that.
_A100 = _gpu(312e12, 40 * 10**9, 1555e9)
_GPUS = {
    "NVIDIA A100-SXM4-40GB": _A100,
    "NVIDIA A100-PCIE-40GB": _A100,
    "NVIDIA A100-SXM4-80GB": _gpu(312e12, 80 * 10**9, 2039e9),
    "NVIDIA A100 80GB PCIe": _gpu(312e12, 80 * 10**9, 1935e9),
    "NVIDIA H100 80GB HBM3": _gpu(989e12, 80 * 10**9, 3350e9),
    "NVIDIA H200": _gpu(989e12, 141 * 10**9, 4800e9),
    "NVIDIA B200": _gpu(2250e12, 180 * 10**9, 7700e9),
}


def peak(device: jax.Device) -> Peak | None:
    """The peak of a device; None if unknown.

    A JAX device is one TensorCore of a TPU v2 or v3, both of a v5p chip, and one of a v4 chip or,
    on Cloud TPU (megacore), both. `device.num_cores` tells how many.
    """
    if device.device_kind in _TPU_CORES:
        core = _TPU_CORES[device.device_kind]
        cores = device.num_cores
        return dataclasses.replace(
            core,
            flops=cores * core.flops,
            memory=cores * core.memory,
            bandwidth=cores * core.bandwidth,
        )
    return _GPUS.get(device.device_kind)


# By the first part of an accelerator's name in a cloud's catalogue.
_CATALOGUE = {
    "v2": _TPU_CORES["TPU v2"],
    "v3": _TPU_CORES["TPU v3"],
    "v4": _TPU_CORES["TPU v4"],
    "v5p": _TPU_CORES["TPU v5"],
    "v5e": _TPU_CORES["TPU v5 lite"],
    "v5litepod": _TPU_CORES["TPU v5 lite"],
    "v6e": _TPU_CORES["TPU v6 lite"],
    "tpu7x": _TPU_CORES["TPU7x"],
    "A100": _A100,
    "H100": _GPUS["NVIDIA H100 80GB HBM3"],
    "H200": _GPUS["NVIDIA H200"],
    "B200": _GPUS["NVIDIA B200"],
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

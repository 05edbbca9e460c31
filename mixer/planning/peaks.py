"""What accelerators can do at best, by their makers' own figures."""

import dataclasses

import jax

from mixer import errors

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Peak:
    """Of one JAX device.

    Attributes:
      flops: bfloat16 FLOP/s of dense matrix products, accumulated in float32.
      memory: bytes that a program may use; of a GPU, all.
    """

    flops: float
    memory: int


# By `device_kind`, of one TensorCore. Cloud TPU's pages on v3 to v6e give chips, of two cores in
# v2, v3, v4 and v5p. v2: Jouppi et al. 2020, "A Domain-Specific Supercomputer", 46 TFLOP/s a chip.
# Memory is what the TPU's compiler (libtpu 0.0.42) leaves to programs, by its own complaints.
_TPU_CORES = {
    "TPU v2": Peak(23e12, int(7.48 * _GIB)),
    "TPU v3": Peak(61.5e12, int(15.48 * _GIB)),
    "TPU v4": Peak(137.5e12, int(30.75 / 2 * _GIB)),
    "TPU v5 lite": Peak(197e12, int(15.75 * _GIB)),  # v5e
    "TPU v5": Peak(229.5e12, int(95.74 / 2 * _GIB)),  # v5p
    "TPU v6 lite": Peak(918e12, int(31.25 * _GIB)),  # v6e
}
# NVIDIA's data sheets; where they count sparse products, half of that.
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
    """The device's; None where it is not known.

    A JAX device is one TensorCore of a TPU v2 or v3, and both of a v5p chip; of a v4 one or, on
    Cloud TPU (megacore), both. Which is asked of the device.
    """
    if device.device_kind in _TPU_CORES:
        core = _TPU_CORES[device.device_kind]
        return Peak(core.flops * device.num_cores, core.memory * device.num_cores)
    return _GPUS.get(device.device_kind)


# By the beginning of an accelerator's name in a cloud's catalogue.
_SOLD = {
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


def sold(name: str) -> tuple[Peak, int]:
    """The peak of a device and how many there are, of an accelerator such as "v3-8" or "H100".

    The number counts TensorCores of v2, v3, v4 and v5p, chips of v5e and v6e, and GPUs.

    Raises:
      BadInput: an unknown one.
    """
    kind, _, count = name.partition("-")
    if kind not in _SOLD or not (count or "1").isdigit() or count == "0":
        raise errors.unknown("accelerator", name, _SOLD, "With their number behind it, as v3-8.")
    return _SOLD[kind], int(count or 1)

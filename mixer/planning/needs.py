"""The memory, FLOPs and traffic of a training step on each device, by compiling it."""

import dataclasses
import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from mixer.planning import hlo, peaks, traffic


@dataclasses.dataclass(frozen=True)
class StepCost:
    """The cost of one training step. Sizes are bytes on one device.

    Attributes:
      parameters, optimizer, averages: size of the parts of the training state.
      gradients: float32, as large as this device's part of the parameters.
      temporary: size of all that exists only within the step.
      activations: size of `temporary` without the gradients: activations and buffers.
      peak: size of everything. If it does not fit, the compiler names `temporary` or `peak`.
      capacity: memory of the device; None if unknown.
      fits: None if unknown.
      flops: FLOPs of one device; None if they cannot be counted.
      flops_per_image: FLOPs of training on one image, by the equations of the model.
      accessed: bytes that one device reads from and writes to its memory; None if it does not fit.
      cycles: the TPU compiler's estimate; None on other devices.
      ideal_flops: `flops_per_image` times the batch size, per device. (They count the taps of a
        convolution that fall on padding, which a program skips: 3 % of BiT-R50x1's at 224.)
      sent: bytes sent to other devices, by the kind of collective, in rings.
      collectives: number of collectives in a step, by kind.
      compile_seconds: seconds to compile on this machine.
    """

    parameters: int
    optimizer: int
    averages: int
    gradients: int
    temporary: int | None
    activations: int | None
    peak: int | None
    capacity: int | None
    fits: bool | None
    flops: int | None
    accessed: int | None
    cycles: int | None
    flops_per_image: int | None
    ideal_flops: float | None
    sent: dict[str, float]
    collectives: dict[str, int]
    compile_seconds: float


def cost_of_step(
    state: Any,
    compile_step: Callable[[], jax.stages.Compiled],
    mesh: Mesh,
    batch_size: int,
    flops_per_image: int | None,
) -> StepCost:
    """Compiles a training step and reads its cost; allocates nothing on the devices.

    Args:
      state: shapes, dtypes and shardings of `params`, `opt_state` and `ema`.
      compile_step: compiles the step.
      batch_size: size of the global batch.
      flops_per_image: FLOPs of training on one image, if they can be counted.
    """
    peak = peaks.peak(mesh.devices.flat[0])
    capacity = peak and peak.memory
    known = dict(
        parameters=_bytes(state.params),
        optimizer=_bytes(state.opt_state),
        averages=_bytes(state.ema),
        gradients=_bytes(state.params),
        capacity=capacity,
        flops_per_image=flops_per_image,
        ideal_flops=flops_per_image and flops_per_image * batch_size / mesh.size,
    )
    began = time.perf_counter()
    try:
        compiled = compile_step()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        temporary, peak = _exceeded(str(error))
        return StepCost(
            **known,
            temporary=temporary,
            activations=None,
            peak=peak,
            fits=False,
            flops=None,
            accessed=None,
            cycles=None,
            sent={},
            collectives={},
            compile_seconds=time.perf_counter() - began,
        )
    seconds = time.perf_counter() - began
    text = compiled.as_text()
    memory, program = compiled.memory_analysis(), hlo.read(text)
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    used += memory.output_size_in_bytes - memory.alias_size_in_bytes
    used += memory.generated_code_size_in_bytes
    return StepCost(
        **known,
        temporary=memory.temp_size_in_bytes,
        activations=max(memory.temp_size_in_bytes - known["gradients"], 0),
        peak=used,
        fits=used <= capacity if capacity else None,
        flops=2 * program.macs,
        accessed=traffic.accessed(text),
        cycles=program.cycles,
        sent=program.sent(),
        collectives=program.counts(),
        compile_seconds=seconds,
    )


def _exceeded(message: str) -> tuple[int | None, int | None]:
    """(temporary, peak) in bytes from the compiler's out-of-memory error, which names only one."""
    found = re.search(r"(Used |temporaries \()([\d.]+)([KMGT])", message)
    if not found:
        return None, None
    size = int(float(found[2]) * 1024 ** (1 + "KMGT".index(found[3])))
    return (None, size) if found[1] == "Used " else (size, None)


def _bytes(tree: Any) -> int:
    """Bytes of the tree on one device."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )

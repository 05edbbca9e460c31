"""What a training step needs on its devices, by the compiler that would make it."""

import dataclasses
import math
import re
import time
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from mixer.planning import hlo, peaks


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of one step; bytes are those of one device.

    Attributes:
      parameters, optimizer, averages: of the training state.
      gradients: in float32, as large as the parameters' part.
      temporary: all that lives within the step.
      activations: of that all but the gradients: what is kept for them, and buffers.
      peak: of all together. Of what does not fit the compiler names `temporary` or `peak`.
      capacity: the device's memory; None if it is not known.
      fits: None if it is not known.
      flops: of one device; None if they cannot be counted.
      flops_per_image: of training, by the model's equations.
      ideal_flops: these for the batch, spread evenly. (Of a convolution they count the taps that
        fall on the padding too, which a program leaves out: 3 % of a BiT-R50x1's at 224.)
      sent: to other devices, by the kind of collective, in rings.
      collectives: how many there are in a step, by kind.
      compile_seconds: on this machine.
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
    flops_per_image: int | None
    ideal_flops: float | None
    sent: dict[str, float]
    collectives: dict[str, int]
    compile_seconds: float


def make_plan(
    state: Any,
    compile_step: Callable[[], jax.stages.Compiled],
    mesh: Mesh,
    batch_size: int,
    flops_per_image: int | None,
) -> Plan:
    """Compiles a training step and reads what it needs; nothing is allocated on the devices.

    Args:
      state: shapes, dtypes and placements of `params`, `opt_state` and `ema`.
      batch_size: of the global batch.
      flops_per_image: of training, if they can be counted.
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
        temporary, peak = _needed(str(error))
        return Plan(
            **known,
            temporary=temporary,
            activations=None,
            peak=peak,
            fits=False,
            flops=None,
            sent={},
            collectives={},
            compile_seconds=time.perf_counter() - began,
        )
    seconds = time.perf_counter() - began
    memory, program = compiled.memory_analysis(), hlo.read(compiled.as_text())
    used = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    used += memory.output_size_in_bytes - memory.alias_size_in_bytes
    used += memory.generated_code_size_in_bytes
    return Plan(
        **known,
        temporary=memory.temp_size_in_bytes,
        activations=max(memory.temp_size_in_bytes - known["gradients"], 0),
        peak=used,
        fits=used <= capacity if capacity else None,
        flops=2 * program.macs,
        sent=program.sent(),
        collectives=program.counts(),
        compile_seconds=seconds,
    )


def _needed(message: str) -> tuple[int | None, int | None]:
    """(bytes within a step, bytes of all) by the compiler's complaint, which names one of them."""
    found = re.search(r"(Used |temporaries \()([\d.]+)([KMGT])", message)
    if not found:
        return None, None
    size = int(float(found[2]) * 1024 ** (1 + "KMGT".index(found[3])))
    return (None, size) if found[1] == "Used " else (size, None)


def _bytes(tree: Any) -> int:
    """Of one device's part."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )

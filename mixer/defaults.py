"""What "auto" means in a config: the precision and the placement for each kind of device."""

import dataclasses
import math

# The value of a key that this file decides.
AUTO = "auto"


@dataclasses.dataclass(frozen=True)
class Default:
    """A row of the table.

    Attributes:
      platform: of `jax.Device`.
      most_images: the row is for at most so many images of a batch per device.
      dtype: `config.model.dtype`.
      fsdp: over how many devices each parameter is sharded; 1: `config.runtime.strategy=replicate`.
      reason: with figures of the TPU compiler for Mixer-B/16, batches of 4,096 (docs/plan.md).
    """

    platform: str
    most_images: float
    dtype: str
    fsdp: int
    reason: str


# The first row that fits counts. Blocks are not scanned, nothing is computed twice, and the batch
# is not split. Where memory is too small, micro-batches come first, as they need no more FLOPs, and
# runtime.remat=full after them, which needs 18 % more.
DEFAULTS = (
    Default("tpu", 64, "bfloat16", 8, "0.52 of float32's memory traffic on a v3-128"),
    Default("tpu", math.inf, "bfloat16", 1, "0.64 of it, if replicated; Adam's part is small"),
    Default("gpu", math.inf, "bfloat16", 1, "tensor cores; not measured here"),
    Default("cpu", math.inf, "float32", 1, "bfloat16 is emulated, and slower"),
)

LESS_MEMORY = (
    "to save memory, in this order: model.dtype=bfloat16, runtime.strategy=fsdp with "
    "runtime.mesh.fsdp=8 or so, micro_batches=2 or more, runtime.remat=full (each --config.KEY=)"
)


def dtype(platform: str) -> str:
    """That of matrix products on devices of this platform."""
    return default(platform, math.inf).dtype


def default(platform: str, images: float) -> Default:
    """The row for a device of this platform that gets so many images of a batch."""
    known = {row.platform for row in DEFAULTS}
    platform = platform if platform in known else "cpu"
    return next(row for row in DEFAULTS if row.platform == platform and images <= row.most_images)

"""One mesh, its placements, and how host rows become global arrays."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mixer import errors
from mixer.batch import Batch

AXES = ("data", "fsdp", "tensor")


def make_mesh() -> Mesh:
    """All devices of all processes along "data"."""
    return jax.make_mesh((jax.device_count(), 1, 1), AXES, (AxisType.Auto,) * 3)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows spread over "data" and "fsdp"."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def check_batch_size(batch_size: int, devices: int, key: str) -> None:
    """Refuses a global batch that cannot be spread evenly.

    Raises:
      BadInput: names the nearest sizes that can.
    """
    if batch_size < 1 or batch_size % devices:
        below = batch_size // devices * devices
        near = " or ".join(str(size) for size in (below, below + devices) if size > 0)
        raise errors.BadInput(
            f"config.{key}={batch_size} is not divisible by the {devices} devices: take {near}"
        )


def local_rows(sharding: NamedSharding, batch_size: int) -> list[int]:
    """The rows of a global batch that this process makes, read from the sharding."""
    rows = np.arange(batch_size)
    slices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return sorted({int(row) for (where,) in slices for row in rows[where]})


def put(batch: Batch, sharding: NamedSharding, batch_size: int) -> Batch:
    """This process's rows [rows, ...] -> global arrays [batch_size, ...]."""
    return {
        key: jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))
        for key, rows in batch.items()
    }

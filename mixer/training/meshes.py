"""The device mesh, and how each process's rows of a batch become global arrays on it.

How parameters are sharded is in placement.py.
"""

import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from flax import linen as nn
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mixer import errors
from mixer.batch import Batch

AXES = ("data", "fsdp", "tensor")
_ROWS = ("data", "fsdp")  # the axes over which a batch is sharded


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh with axes `AXES` over all devices of all processes, arranged along their network.

    Over several TPU slices only `data` goes from one to another.

    Args:
      data, fsdp, tensor: sizes of the axes. One of them may be -1: as many as are left.
      devices: by default all that JAX sees.

    Raises:
      BadInput: sizes whose product is not the number of devices, or that do not fit the network.
    """
    devices = jax.devices() if devices is None else devices
    sizes = {"data": data, "fsdp": fsdp, "tensor": tensor}
    given = math.prod(size for size in sizes.values() if size != -1)
    free = [axis for axis, size in sizes.items() if size == -1]
    if min(sizes.values()) < -1 or given < 1 or len(free) > 1 or len(devices) % given:
        given = 0
    if not given or (not free and given != len(devices)):
        shown = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
        raise errors.BadInput(
            f"config.runtime.mesh: {shown} for {len(devices)} devices: the sizes must multiply to "
            f"their number; one of them may be -1, for as many as are left"
        )
    shape = tuple(len(devices) // given if size == -1 else size for size in sizes.values())
    try:
        arranged = _arranged(shape, devices)
    except NotImplementedError as error:
        raise errors.BadInput(
            f"config.runtime.mesh: {shape} of data, fsdp and tensor does not fit the network of "
            f"{len(devices)} {devices[0].device_kind}: {str(error).splitlines()[0]}"
        ) from None
    return Mesh(arranged, AXES, axis_types=(AxisType.Auto,) * 3)


def _arranged(shape: tuple[int, ...], devices: Sequence[jax.Device]) -> np.ndarray:
    """The devices as an array of this shape, neighbours in it near in the network."""
    # Unlike jax.make_mesh this lets a mesh axis take a part of a network axis on all TPUs.
    split = {"allow_split_physical_axes": True}
    of_slices = {getattr(device, "slice_index", 0) for device in devices}
    slices = len(of_slices) if devices[0].platform == "tpu" else 1
    if slices == 1:
        return mesh_utils.create_device_mesh(shape, devices, **split)
    # Between slices the network is slow, and data parallelism sends least.
    data, *others = shape
    if data % slices:
        raise errors.BadInput(
            f"config.runtime.mesh.data={data} for {slices} TPU slices: expected a multiple of "
            f"{slices}, as each slice holds a copy of all parameters"
        )
    within = (data // slices, *others)
    between = (slices, *(1 for _ in others))
    return mesh_utils.create_hybrid_device_mesh(within, between, devices, **split)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same values on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows sharded over the axes "data" and "fsdp"."""
    return NamedSharding(mesh, PartitionSpec(_ROWS))


def shard_activations(apply: Callable, mesh: Mesh) -> Callable:
    """`apply(variables, images, ...)` of a Linen module with all activations sharded by rows.

    Without this constraint, if the parameters are sharded too, the compiler may choose to move
    activations between devices instead of parameters. It still decides about the other axes.
    """

    def call(variables, images, *args, **kwargs):
        def pin(x):
            if x.ndim < 2 or len(x) != len(images):
                return x
            rest = (PartitionSpec.UNCONSTRAINED,) * (x.ndim - 1)
            place = NamedSharding(mesh, PartitionSpec(_ROWS, *rest))
            return jax.lax.with_sharding_constraint(x, place)

        def pin_output(method, args, kwargs, context):
            return jax.tree.map(pin, method(*args, **kwargs))

        with nn.intercept_methods(pin_output):
            return apply(variables, pin(images), *args, **kwargs)

    return call


def check_batch_size(batch_size: int, mesh: Mesh, key: str, micro_batches: int = 1) -> None:
    """Refuses a global batch that the devices, or their micro-batches, cannot share evenly.

    Raises:
      BadInput: names the nearest sizes that fit.
    """
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    parts = devices * micro_batches
    if batch_size < 1 or batch_size % parts:
        below = batch_size // parts * parts
        near = " or ".join(str(size) for size in (below, below + parts) if size > 0)
        split = f" times {micro_batches} micro-batches" if micro_batches > 1 else ""
        raise errors.BadInput(
            f"config.{key}={batch_size} is not divisible by the {devices} devices{split}: "
            f"use {near}"
        )


def local_rows(sharding: NamedSharding, batch_size: int) -> list[int]:
    """The rows of a global batch that this process loads, by the sharding."""
    rows = np.arange(batch_size)
    slices = sharding.addressable_devices_indices_map((batch_size,)).values()
    return sorted({int(row) for (where,) in slices for row in rows[where]})


def local(array: jax.Array) -> np.ndarray:
    """The rows of a batch's array that this process has, in their order."""
    parts = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(parts[first]) for first in sorted(parts)])


def put(batch: Batch, sharding: NamedSharding, batch_size: int) -> Batch:
    """This process's rows of a batch -> global arrays [batch_size, ...]."""
    return {
        key: jax.make_array_from_process_local_data(sharding, rows, (batch_size, *rows.shape[1:]))
        for key, rows in batch.items()
    }

"""Builds the model from the config, and its placement on the devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import defaults, errors
from mixer.models import field_values, registry
from mixer.models.stack import REMAT
from mixer.runs.keys import at_least
from mixer.training import meshes, placement, step
from mixer.training.placement import STRATEGIES, PlacementRule
from mixer.weights import fitting


def image_size_of(config: ConfigDict) -> tuple[int, int]:
    """`config.image_size`, checked."""
    size = tuple(config.image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise errors.BadInput(
            f"config.image_size={size}: expected a pair (height, width) of pixels, as in (224, 224)"
        )
    return size


def channels_of(config: ConfigDict) -> int:
    """`config.model.in_chans`; 3 for a family without it."""
    return config.model.get("in_chans", 3)


def build_model(name: str, fields: dict[str, Any], image_size: tuple[int, int]) -> nn.Module:
    """Builds the model and checks it against the image size."""
    fields = field_values.checked(fields, registry.model_fields(name), "config.model.")
    model = registry.create_model(name, **fields)
    try:
        fitting.shapes(model, image_size)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        message = str(error).strip().splitlines()[0]
        raise errors.BadInput(f"config.model and config.image_size: {message}") from None
    return model


def model_fields(config: ConfigDict, platform: str | None = None) -> dict[str, Any]:
    """`config.model` as a dict, with the dtype "auto" replaced by the default for the devices.

    Args:
      platform: of the devices; by default JAX's.
    """
    fields = config.model.to_dict()
    if fields.get("dtype") == defaults.AUTO:
        platform = platform or jax.devices()[0].platform
        fields["dtype"] = defaults.dtype(platform)
    return fields


def mesh_of(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh `config.runtime.mesh` of all devices, or of `devices`."""
    sizes = config.runtime.mesh
    return meshes.make_mesh(sizes.data, sizes.fsdp, sizes.tensor, devices)


def training_mesh(
    config: ConfigDict, shapes: Any, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """`mesh_of`, after checking that the batch can be split over it.

    With the strategy "auto" and the default mesh, `mixer.defaults` sets the size of the axis
    "fsdp", unless that size does not divide the parameters.

    Args:
      shapes: of the parameters.
    """
    mesh = mesh_of(config, devices)
    at_least(1, micro_batches=config.micro_batches)
    unset = (config.runtime.mesh.data, mesh.shape["fsdp"], mesh.shape["tensor"]) == (-1, 1, 1)
    if config.runtime.strategy == defaults.AUTO and unset:
        platform = mesh.devices.flat[0].platform
        fsdp = defaults.default(platform, config.batch_size / mesh.size).fsdp
        mesh = _with_fsdp(mesh, fsdp, shapes, rules_of(config, fsdp), devices)
    meshes.check_batch_size(config.batch_size, mesh, "batch_size", config.micro_batches)
    return mesh


def _with_fsdp(
    mesh: Mesh,
    fsdp: int,
    shapes: Any,
    rules: Sequence[PlacementRule],
    devices: Sequence[jax.Device] | None,
) -> Mesh:
    """A mesh with this size of `fsdp`; `mesh` if devices or parameters are not divisible by it."""
    try:
        wanted = meshes.make_mesh(-1, fsdp, 1, devices)
        placement.parameter_specs(shapes, wanted, rules)
    except errors.BadInput:
        return mesh
    return wanted


def rules_of(config: ConfigDict, fsdp: int) -> tuple[PlacementRule, ...]:
    """Placement rules: `config.runtime.rules`, then those of the strategy.

    Args:
      fsdp: size of that mesh axis; with the strategy "auto", above 1 shards the parameters.
    """
    strategy = config.runtime.strategy
    if strategy not in (defaults.AUTO, *STRATEGIES):
        raise errors.unknown("config.runtime.strategy", strategy, (defaults.AUTO, *STRATEGIES))
    if strategy == defaults.AUTO:
        strategy = "fsdp" if fsdp > 1 else "replicate"
    return (*config.runtime.rules, *STRATEGIES[strategy])


def with_memory_saved(model: nn.Module, config: ConfigDict) -> nn.Module:
    """The model with `config.runtime.scan` and `remat`.

    Raises:
      BadInput: the model has no such field.
    """
    if config.runtime.remat not in REMAT:
        raise errors.unknown("config.runtime.remat", config.runtime.remat, REMAT)
    asked = {field: config.runtime[field] for field in registry.EXECUTION_FIELDS}
    known = {field: value for field, value in asked.items() if hasattr(model, field)}
    for field in asked.keys() - known.keys():
        if asked[field] not in (False, "none"):
            raise errors.BadInput(
                f"config.runtime.{field}={asked[field]}: {type(model).__name__} has no field "
                f"{field}; leave it out"
            )
    return model.clone(**known)


def apply_of(model: nn.Module, mesh: Mesh) -> Callable:
    """(params, uint8 images) -> the model's output."""
    apply = meshes.shard_activations(model.apply, mesh)
    return lambda params, images: apply({"params": params}, batch_lib.to_model_input(images))


def compiled(update: Callable, mesh: Mesh) -> Callable:
    """Jits `update(params, batch)`: inputs keep their placement, results are replicated."""
    return step.guarded(jax.jit(update, out_shardings=meshes.replicated(mesh)))


def precision(model: nn.Module) -> str:
    """For results.json: dtypes, and the precision of float32 matrix products."""
    matmul = jax.config.jax_default_matmul_precision or "platform default"
    return f"{getattr(model, 'dtype', 'float32')} compute, float32 parameters, matmul: {matmul}"


def resolution(image_size: tuple[int, int]) -> int | list[int]:
    """One number for square images, else [height, width]."""
    return image_size[0] if image_size[0] == image_size[1] else list(image_size)

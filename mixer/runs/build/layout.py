"""How a run lies on its devices: mesh, placement of parameters, memory for time."""

from collections.abc import Sequence

import jax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.models import registry
from mixer.models.stack import REMAT
from mixer.runs.build.parts import at_least
from mixer.training import sharding
from mixer.training.placement import STRATEGIES, Rule


def mesh_of(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """`config.runtime.mesh` over all devices, or over `devices`."""
    sizes = config.runtime.mesh
    return sharding.make_mesh(sizes.data, sizes.fsdp, sizes.tensor, devices)


def training_mesh(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The same, after checking that the batch can be spread over it."""
    mesh = mesh_of(config, devices)
    at_least(1, micro_batches=config.micro_batches)
    sharding.check_batch_size(config.batch_size, mesh, "batch_size", config.micro_batches)
    return mesh


def rules_of(config: ConfigDict) -> tuple[Rule, ...]:
    """`config.runtime.rules`, and behind them those of the strategy."""
    strategy = config.runtime.strategy
    if strategy not in STRATEGIES:
        raise errors.unknown("config.runtime.strategy", strategy, STRATEGIES)
    return (*config.runtime.rules, *STRATEGIES[strategy])


def with_memory_saved(model: nn.Module, config: ConfigDict) -> nn.Module:
    """The model with `config.runtime.scan` and `remat`.

    Raises:
      BadInput: the model has no such field.
    """
    if config.runtime.remat not in REMAT:
        raise errors.unknown("config.runtime.remat", config.runtime.remat, REMAT)
    asked = {field: config.runtime[field] for field in registry.FREE}
    known = {field: value for field, value in asked.items() if hasattr(model, field)}
    for field in asked.keys() - known.keys():
        if asked[field] not in (False, "none"):
            raise errors.BadInput(
                f"config.runtime.{field}={asked[field]}: {type(model).__name__} has no field "
                f"{field}; leave it out"
            )
    return model.clone(**known)

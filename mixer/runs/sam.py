"""Builds `config.sam`, and says how often a step goes through the model."""

import math
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from mixer import errors
from mixer.runs.keys import within
from mixer.training import optimizer
from mixer.training.sam import Sam, make_rho


def passes(config: ConfigDict) -> int:
    """How many times a step goes forward and back through the model: 2 with `config.sam.rho`."""
    return 2 if config.sam.rho else 1


def sam_of(config: ConfigDict, schedule: optax.Schedule, shapes: Any) -> Sam | None:
    """How a step climbs; None without `config.sam.rho`.

    Args:
      schedule: step -> learning rate.
      shapes: of the parameters.

    Raises:
      BadInput: a number is out of range, or `rho_min` is given at a constant learning rate.
    """
    asked = config.sam
    within(0, math.inf, **{"sam.rho": asked.rho})
    if passes(config) == 1:
        return None
    within(0, math.inf, **{"sam.alpha": asked.alpha})
    rates = optimizer.learning_rate_multipliers(shapes, config.optimizer.multipliers)
    return Sam(
        rho=_rho(config, schedule),
        alpha=asked.alpha,
        trained=jax.tree.map(bool, rates),
    )


def _rho(config: ConfigDict, schedule: optax.Schedule) -> optax.Schedule:
    rho, rho_min = config.sam.rho, config.sam.rho_min
    if rho_min is None:
        return lambda step: rho
    if not 0 <= rho_min <= rho:
        raise errors.BadInput(f"config.sam.rho_min={rho_min}: expected 0 <= rho_min <= {rho}, rho")
    base, end = config.schedule.base, config.schedule.end
    if config.schedule.decay == "constant" or base == end:
        raise errors.BadInput(
            f"config.sam.rho_min={rho_min}: rho falls with the learning rate, which is constant "
            f"here: leave it out"
        )
    return make_rho(schedule, rho, rho_min, base=base, end=end)

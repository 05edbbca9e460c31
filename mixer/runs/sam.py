"""Builds `config.sam`, and says how often a step goes through the model."""

import math
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from mixer import errors
from mixer.runs.keys import within
from mixer.training import optimizer, schedules
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
    decay, base = config.schedule.decay, config.schedule.base
    if decay in schedules.ENDLESS or base == (end := config.schedule.end):
        raise errors.BadInput(
            f"config.sam.rho_min={rho_min}: rho falls as the learning rate falls from "
            f"schedule.base to .end, which it does not do here: leave it out"
        )
    return make_rho(schedule, rho, rho_min, base=base, end=end)

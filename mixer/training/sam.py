"""Sharpness-aware minimization: SAM (Foret et al. 2021) and GSAM (Zhuang et al. 2022).

With g the gradient of the loss f at the parameters w, a step climbs to w + rho g / |g| and takes
the gradient g' there: of the same images, with the same mixup and dropout masks. SAM updates w by
g'. GSAM subtracts from it alpha times the part of g that is orthogonal to g', which lowers the
surrogate gap, f(w + rho g / |g|) - f(w), and to first order leaves f(w + rho g / |g|) as it is.

g is the gradient of the whole global batch, so that the number of devices and of micro-batches
changes nothing. The papers' code climbs on each device by the gradient of its own images
("m-sharpness" in Foret et al., section 4.1).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

_TINY = 1e-12  # so that a gradient of zero gives no NaN


@dataclasses.dataclass(frozen=True)
class Sam:
    """How a step climbs.

    Attributes:
      rho: step -> length of the climb, over all trained parameters together.
      alpha: weight of GSAM's orthogonal part; 0: SAM.
      trained: a tree of booleans like the parameters. Where False, as for frozen parameters, the
        climb moves nothing and the gradient is 0.
    """

    rho: Callable[[jax.Array], jax.Array]
    alpha: float
    trained: Any


def make_rho(
    learning_rate: Callable[[jax.Array], jax.Array],
    rho: float,
    rho_min: float,
    *,
    base: float,
    end: float,
) -> Callable[[jax.Array], jax.Array]:
    """GSAM's schedule, section 4 of the paper: rho follows the learning rate in a straight line.

    rho(t) = rho_min + (rho - rho_min) * (lr(t) - end) / (base - end). Below `end`, as at the
    beginning of the warm-up, it stays at rho_min: the paper's rho is never negative.

    Args:
      rho: at the learning rate `base`.
      rho_min: at the learning rate `end`; another one than `base`.
    """

    def value(step: jax.Array) -> jax.Array:
        part = jnp.clip((learning_rate(step) - end) / (base - end), 0.0, 1.0)
        return rho_min + (rho - rho_min) * part

    return value


def gradient(
    sam: Sam,
    gradient_at: Callable[[Any], tuple[Any, jax.Array, Any]],
    params: Any,
    step: jax.Array,
) -> tuple[Any, jax.Array, Any, dict[str, jax.Array]]:
    """The gradient by which SAM or GSAM updates `params`.

    Args:
      gradient_at: parameters -> (gradient, loss, counts); called twice.
      step: int32, the number of updates done.

    Returns:
      (gradient, loss at `params`, counts at `params`, metrics): the metrics are `rho` and
      `surrogate_gap`, the loss at the top of the climb minus that at `params`.
    """
    gradient_here, loss, counts = gradient_at(params)
    here = _only(sam.trained, gradient_here)
    rho = jnp.asarray(sam.rho(step), jnp.float32)
    top = optax.tree.add_scale(params, rho / (optax.tree.norm(here) + _TINY), here)
    gradient_there, loss_there, _ = gradient_at(top)
    there = _only(sam.trained, gradient_there)
    metrics = {"rho": rho, "surrogate_gap": loss_there - loss}
    if not sam.alpha:
        return there, loss, counts, metrics
    along = optax.tree.vdot(here, there) / jnp.maximum(optax.tree.vdot(there, there), _TINY**2)
    orthogonal = optax.tree.add_scale(here, -along, there)
    return optax.tree.add_scale(there, -sam.alpha, orthogonal), loss, counts, metrics


def _only(trained: Any, gradient: Any) -> Any:
    return jax.tree.map(lambda g, kept: g if kept else jnp.zeros_like(g), gradient, trained)

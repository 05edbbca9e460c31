"""Learning rate as a function of the step; the first update has step 0."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mixer import errors

_DECAYS: dict[str, Callable] = {
    "constant": lambda base, end, part: base,
    "linear": lambda base, end, part: end + (base - end) * (1 - part),
    "cosine": lambda base, end, part: end + (base - end) * 0.5 * (1 + jnp.cos(jnp.pi * part)),
}


def make_schedule(
    decay: str, *, base: float, end: float, warmup: int, total: int, cooldown: int = 0
) -> Callable[[jax.Array], jax.Array]:
    """Linear warm-up from 0 to `base`, a decay to `end` (both absolute rates), a last cooldown.

    rate(t) = decay((t - warmup) / (total - warmup)) * min(1, t / warmup). During the last
    `cooldown` steps the rate falls linearly to 0 from what it was when they began.

    Args:
      decay: "constant", "linear" or "cosine".
      warmup, total, cooldown: steps.

    Raises:
      BadInput: unknown decay, or phases that do not fit into `total`.
    """
    if decay not in _DECAYS:
        raise errors.unknown("config.schedule.decay", decay, _DECAYS)
    if warmup + cooldown > total:
        raise errors.BadInput(
            f"the schedule does not fit: {warmup:,} steps of warm-up and {cooldown:,} of cooldown "
            f"in {total:,} steps of training. Lower config.schedule.warmup or .cooldown, or raise "
            f"config.total"
        )
    begin = total - cooldown

    def rate(step: jax.Array) -> jax.Array:
        t = jnp.minimum(step, begin) if cooldown else step
        part = jnp.clip((t - warmup) / max(total - warmup, 1), 0.0, 1.0)
        value = _DECAYS[decay](base, end, part) * (jnp.minimum(1.0, t / warmup) if warmup else 1.0)
        if cooldown:
            value = value * jnp.clip((total - step) / cooldown, 0.0, 1.0)
        return value

    return rate

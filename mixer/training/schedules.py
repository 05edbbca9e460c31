"""The learning-rate schedule: warm-up, decay and cooldown. The first update has step 0."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mixer import errors

_DECAYS: dict[str, Callable] = {
    "constant": lambda base, end, progress: base,
    "linear": lambda base, end, progress: end + (base - end) * (1 - progress),
    "cosine": lambda base, end, progress: (
        end + (base - end) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
    ),
}


def make_schedule(
    decay: str, *, base: float, end: float, warmup: int, total: int, cooldown: int = 0
) -> Callable[[jax.Array], jax.Array]:
    """Linear warm-up from 0 to `base`, then a decay to `end`, then a linear cooldown to 0.

    lr(t) = decay((t - warmup) / (total - warmup)) * min(1, t / warmup). In the last `cooldown`
    steps the learning rate falls linearly to 0 from the value it had when they began.

    Args:
      decay: "constant", "linear" or "cosine".
      base, end: learning rates, both absolute.
      warmup, total, cooldown: numbers of steps.

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

    def learning_rate(step: jax.Array) -> jax.Array:
        t = jnp.minimum(step, total - cooldown) if cooldown else step
        progress = jnp.clip((t - warmup) / max(total - warmup, 1), 0.0, 1.0)
        value = _DECAYS[decay](base, end, progress)
        if warmup:
            value = value * jnp.minimum(1.0, t / warmup)
        if cooldown:
            value = value * jnp.clip((total - step) / cooldown, 0.0, 1.0)
        return value

    return learning_rate

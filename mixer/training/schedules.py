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
    "exponential": lambda base, end, progress: base * (end / base) ** progress,
}
# Of reciprocal square root, which depends on no total.
RSQRT = "rsqrt"
# Those that do not end at a given rate.
ENDLESS = ("constant", RSQRT)


def make_schedule(
    decay: str,
    *,
    base: float,
    end: float = 0.0,
    warmup: int,
    total: int,
    cooldown: int = 0,
    timescale: int = 10_000,
) -> Callable[[jax.Array], jax.Array]:
    """Linear warm-up from 0 to `base`, then a decay to `end`, then a linear cooldown to 0.

    lr(t) = decay((t - warmup) / (total - warmup)) * min(1, t / warmup). In the last `cooldown`
    steps the learning rate falls linearly to 0 from the value it had when they began.

    "exponential" is base * (end / base) ** progress: each step has the same share of the one
    before. "rsqrt" is base / sqrt(1 + (t - warmup) / timescale) after warm-up (Zhai et al. 2022,
    Scaling Vision Transformers, with big_vision's offset of 1).

    Args:
      decay: "constant", "linear", "cosine", "exponential" or "rsqrt".
      base, end: learning rates, both absolute; "constant" and "rsqrt" have no `end`.
      warmup, total, cooldown: numbers of steps.
      timescale: of "rsqrt", in steps: where the rate is base / sqrt(2).

    Raises:
      BadInput: unknown decay, phases that do not fit into `total`, or an exponential decay from or
        to 0.
    """
    if decay not in (*_DECAYS, RSQRT):
        raise errors.unknown("config.schedule.decay", decay, (*_DECAYS, RSQRT))
    if decay == "exponential" and not (base > 0 and end > 0):
        raise errors.BadInput(
            f"config.schedule.decay=exponential from base={base} to end={end}: expected two rates "
            f"above 0, as it multiplies the rate by the same factor in each step. Set "
            f"config.schedule.base and .end"
        )
    if warmup + cooldown > total:
        raise errors.BadInput(
            f"the schedule does not fit: {warmup:,} steps of warm-up and {cooldown:,} of cooldown "
            f"in {total:,} steps of training. Lower config.schedule.warmup or .cooldown, or raise "
            f"config.total"
        )

    def learning_rate(step: jax.Array) -> jax.Array:
        t = jnp.minimum(step, total - cooldown) if cooldown else step
        if decay == RSQRT:
            value = base / jnp.sqrt(1 + jnp.maximum(t - warmup, 0) / timescale)
        else:
            progress = jnp.clip((t - warmup) / max(total - warmup, 1), 0.0, 1.0)
            value = _DECAYS[decay](base, end, progress)
        if warmup:
            value = value * jnp.minimum(1.0, t / warmup)
        if cooldown:
            value = value * jnp.clip((total - step) / cooldown, 0.0, 1.0)
        return value

    return learning_rate

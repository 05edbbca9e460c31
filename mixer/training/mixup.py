"""Mixup (Zhang et al. 2018) as in big_vision: one lambda a step for the whole global batch."""

import jax
import jax.numpy as jnp


def own_part(key: jax.Array, p: float) -> jax.Array:
    """The step's lambda: float32, at least 1/2."""
    part = jax.random.beta(key, p, p)
    return jnp.maximum(part, 1 - part)


def mixup(
    key: jax.Array, images: jax.Array, targets: jax.Array, p: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes each example with the one before it, the first with the last.

    lambda ~ Beta(p, p), then the larger of lambda and 1 - lambda: an example's own part is never
    the smaller one.

    Args:
      key: of this step.
      images: float32 [B, H, W, 3], the global batch, before it is split in any way.
      targets: float32 [B, K].
      p: the Beta's parameter, table 4's "mixup p"; above 0.
    """
    part = own_part(key, p)
    return tuple(part * x + (1 - part) * jnp.roll(x, 1, axis=0) for x in (images, targets))

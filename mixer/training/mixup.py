"""Mixup (Zhang et al. 2018) as in big_vision: one lambda per step for the whole global batch."""

import jax
import jax.numpy as jnp


def sample_lambda(key: jax.Array, p: float) -> jax.Array:
    """Draws lambda ~ Beta(p, p) and returns the larger of lambda and 1 - lambda, float32."""
    lam = jax.random.beta(key, p, p)
    return jnp.maximum(lam, 1 - lam)


def mixup(
    key: jax.Array, images: jax.Array, targets: jax.Array, p: float
) -> tuple[jax.Array, jax.Array]:
    """Mixes each example with the one before it, and the first with the last.

    The example itself has weight lambda >= 1/2, the one before it 1 - lambda.

    Args:
      key: random key of this step.
      images: float32 [B, H, W, 3], the whole global batch.
      targets: float32 [B, K].
      p: parameter of the Beta distribution, table 4's "mixup p"; above 0.
    """
    lam = sample_lambda(key, p)
    return tuple(lam * x + (1 - lam) * jnp.roll(x, 1, axis=0) for x in (images, targets))

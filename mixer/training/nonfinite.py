"""Skips updates whose gradient is NaN or infinite (config.skip_nonfinite).

How many may be skipped in a row, and the error that ends the run, are in progress.py.
"""

import jax
import jax.numpy as jnp
import optax


def skip_nonfinite(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Wraps `optimizer`: if the global norm of the gradient is not finite, the update is 0.

    The moments then keep their values. The step counters still advance, so that the learning-rate
    schedule is not delayed.
    """

    def update(gradient, state, params=None):
        updates, new_state = optimizer.update(gradient, state, params)
        finite = jnp.isfinite(optax.tree.norm(gradient))

        def keep(new, old):
            is_counter = not jnp.issubdtype(new.dtype, jnp.inexact)
            return new if is_counter else jnp.where(finite, new, old)

        zeros = jax.tree.map(jnp.zeros_like, updates)
        return jax.tree.map(keep, updates, zeros), jax.tree.map(keep, new_state, state)

    return optax.GradientTransformation(optimizer.init, update)

"""An update whose gradient is NaN or infinite can be left out."""

import jax
import jax.numpy as jnp
import optax


def skip_nonfinite(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer`, with an update of 0 where the global norm of the gradient is not finite.

    Its moments stay as they were, while its counters go on, so that the schedule keeps its times.
    """

    def update(gradient, state, params=None):
        updates, moved = optimizer.update(gradient, state, params)
        finite = jnp.isfinite(optax.tree.norm(gradient))

        def keep(new, old):
            counter = not jnp.issubdtype(new.dtype, jnp.inexact)
            return new if counter else jnp.where(finite, new, old)

        nothing = jax.tree.map(jnp.zeros_like, updates)
        return jax.tree.map(keep, updates, nothing), jax.tree.map(keep, moved, state)

    return optax.GradientTransformation(optimizer.init, update)

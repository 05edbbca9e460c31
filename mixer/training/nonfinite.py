"""NaN and infinity: the error that ends a run, and the skip of an update (config.skip_nonfinite).

Progress, which sees the metrics of each step, counts the skips in a row and raises the error.
"""

import jax
import jax.numpy as jnp
import optax

from mixer.errors import Failure


class NonFinite(Failure):
    """The loss or the norm of the gradient, update or parameters is NaN or infinite."""

    def __init__(self, step: int, name: str, value: float):
        super().__init__(
            f"the {name} became {value} at step {step}; that step was not saved. Try a lower "
            f"learning rate or gradient clipping (--config.optimizer.clip_norm) in another "
            f"--workdir. --config.init_from starts from the weights of an earlier checkpoint, and "
            f"--config.skip_nonfinite=N skips up to N updates in a row whose gradient is not finite"
        )


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

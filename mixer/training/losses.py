"""Losses and label smoothing. A loss maps logits and targets [N, K] to float32 [N]."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from mixer import batch as batch_lib
from mixer import errors


def softmax_xent(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats."""
    return optax.softmax_cross_entropy(logits, targets)


def sigmoid_xent(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Sigmoid cross-entropy in nats, summed over the classes: the paper's pretraining loss."""
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)


def weighted(
    loss: Callable[[jax.Array, jax.Array], jax.Array], class_weights: jax.Array, smoothing: float
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`loss` times the weight of each example: the mean weight of its classes.

    After mixup or CutMix an example has two classes, in the target's proportions. Label smoothing,
    which the targets already contain, does not count.

    Args:
      class_weights: float32 [K].
      smoothing: share of the targets that is spread evenly over all classes; below 1.
    """

    def weighted_loss(logits, targets):
        # Not a matrix product, which a TPU would round to bfloat16.
        smoothed = (targets * class_weights).sum(axis=-1)
        each = (smoothed - smoothing * class_weights.mean()) / (1 - smoothing)
        return each * loss(logits, targets)

    return weighted_loss


def mse(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The squared error, averaged over the outputs: the loss of a regression."""
    return jnp.square(outputs - targets).mean(axis=-1)


LOSSES = {
    "softmax_xent": softmax_xent,
    "soft_xent": softmax_xent,  # of targets that are distributions, and of nothing else
    "sigmoid_xent": sigmoid_xent,
    "mse": mse,
}
# The kinds of labels that each is for, as sources call them. The first loss is the usual one.
TAKES = {
    "softmax_xent": ("class", "distribution"),
    "soft_xent": ("distribution",),
    "sigmoid_xent": ("class", "classes", "distribution", "probabilities"),
    "mse": ("distribution", "probabilities", "values"),
}
# What other code calls them.
_OTHER_NAMES = {
    "softmax_xent": "ce xent cross_entropy crossentropy softmax softmax_cross_entropy "
    "categorical_crossentropy sparse_categorical_crossentropy nll",
    "sigmoid_xent": "bce sigmoid bce_with_logits bcewithlogits binary_cross_entropy "
    "binary_crossentropy sigmoid_cross_entropy",
    "soft_xent": "soft_target_cross_entropy softtarget",
    "mse": "l2 mean_squared_error squared_error mse_loss regression",
}
_OF_CLASSES = {kind for kinds in TAKES.values() for kind in kinds} - {"values"}
REGRESSION = "mse"  # the loss whose model outputs numbers, not logits


def register_loss(name: str, loss: Callable | None = None, *, takes: Sequence[str] = ("class",)):
    """Makes `loss` available to `config.loss`. Without it, a decorator.

    Args:
      loss: (logits, targets), both float32 [N, K] -> float32 [N], in JAX. The targets are one-hot
        or multi-hot, or the source's vectors, after label smoothing, mixup and CutMix.
      takes: the kinds of labels that it is for: class (one of several), classes (any number of
        them), distribution, probabilities. Outputs that are numbers have "mse" alone.

    Raises:
      BadInput: another kind of labels; in the run: the loss is not float [N].
    """
    if loss is None:
        return lambda decorated: register_loss(name, decorated, takes=takes)
    if not takes or set(takes) - _OF_CLASSES:
        raise errors.BadInput(
            f"register_loss({name!r}, takes={tuple(takes)!r}): expected some of "
            f"{', '.join(sorted(_OF_CLASSES))}"
        )

    def checked(logits, targets):
        each = loss(logits, targets)
        if jnp.shape(each) != logits.shape[:1]:  # a mean would train, but ignore class weights
            raise errors.BadInput(
                f"config.loss={name}: for logits {logits.shape} it returned "
                f"{jnp.shape(each)}: expected a number for each row, {logits.shape[:1]}"
            )
        return each

    LOSSES[name], TAKES[name] = checked, tuple(takes)
    return loss


def named(name: str) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The loss `config.loss`.

    Raises:
      BadInput: there is none of this name.
    """
    if name not in LOSSES:
        known = [loss for loss, others in _OTHER_NAMES.items() if name.lower() in others.split()]
        raise errors.unknown("config.loss", name, LOSSES, near=known or None)
    return LOSSES[name]


def targets(labels: jax.Array, num_classes: int, smoothing: float = 0.0) -> jax.Array:
    """The labels of a batch -> float32 [N, K], with label smoothing.

    Classes become one-hot or multi-hot; vectors stay as they are.
    """
    return optax.smooth_labels(batch_lib.multi_hot(labels, num_classes), smoothing)

"""Losses and label smoothing. A loss maps logits and targets [N, K] to float32 [N]."""

import jax
import optax

from mixer import batch as batch_lib


def softmax_xent(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Softmax cross-entropy in nats."""
    return optax.softmax_cross_entropy(logits, targets)


def sigmoid_xent(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Sigmoid cross-entropy in nats, summed over the classes: the paper's pretraining loss."""
    return optax.sigmoid_binary_cross_entropy(logits, targets).sum(axis=-1)


LOSSES = {"softmax_xent": softmax_xent, "sigmoid_xent": sigmoid_xent}


def targets(labels: jax.Array, num_classes: int, smoothing: float = 0.0) -> jax.Array:
    """Labels int32 [N] or [N, L] -> float32 [N, K]: one-hot or multi-hot, with label smoothing."""
    return optax.smooth_labels(batch_lib.multi_hot(labels, num_classes), smoothing)

"""Weights of the classes in the loss, against scikit-learn and against repeated examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from mixer.training import losses
from mixer.training.mixing import Mixing, mix

WEIGHTS = np.array([0.5, 2.0, 1.25], np.float32)
LABELS = np.array([0, 1, 1, 2, 0, 2], np.int32)
LOGITS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_example_counts_as_its_class(smoothing):
    targets = losses.targets(jnp.array(LABELS), 3, smoothing)
    found = losses.weighted(losses.softmax_xent, WEIGHTS, smoothing)(LOGITS, targets)
    plain = losses.softmax_xent(LOGITS, targets)
    np.testing.assert_allclose(found, plain * WEIGHTS[LABELS], rtol=1e-5)
    if not smoothing:
        known = log_loss(
            LABELS, jax.nn.softmax(LOGITS), sample_weight=WEIGHTS[LABELS], normalize=False
        )
        np.testing.assert_allclose(found.sum(), known, rtol=1e-5)


def test_a_weight_of_two_is_an_example_twice():
    @jax.jit
    def gradient(weights, rows):
        loss = losses.weighted(losses.sigmoid_xent, weights, 0.0)
        targets = losses.targets(jnp.array(LABELS)[rows], 3)
        logits = jnp.array(LOGITS)[rows]
        return jax.grad(lambda bias: loss(logits + bias, targets).sum())(jnp.zeros(3))

    once, twice = np.arange(6), np.array([0, 1, 1, 2, 2, 3, 4, 5])  # those of class 1
    np.testing.assert_allclose(
        gradient(np.float32([1, 2, 1]), once), gradient(np.ones(3, np.float32), twice), rtol=1e-5
    )


def test_a_mixed_image_has_the_mixed_weight():
    @jax.jit
    def both():
        targets = losses.targets(jnp.array(LABELS), 3, 0.2)
        # Mixed as an image is, the weights show the same lambda.
        draw = Mixing(mixup=1.0).draw((1, 1), jax.random.key(1))
        weights, mixed = mix(draw, jnp.array(WEIGHTS[LABELS]), targets)
        found = losses.weighted(losses.softmax_xent, WEIGHTS, 0.2)(LOGITS, mixed)
        return found, losses.softmax_xent(LOGITS, mixed) * weights

    np.testing.assert_allclose(*both(), rtol=1e-5)

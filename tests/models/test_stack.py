"""Scan and rematerialisation change cost only."""

import jax
import numpy as np
import pytest

from mixer.models.mixer import Mixer
from mixer.models.stack import REMAT

TINY = Mixer(
    num_classes=5,
    patch_size=4,
    num_blocks=3,
    hidden_dim=12,
    tokens_mlp_dim=7,
    channels_mlp_dim=20,
    dropout=0.2,
    stochastic_depth=0.5,
)
IMAGES = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)


def gradient(model, params):
    def loss(params):
        logits = model.apply({"params": params}, IMAGES, train=True, rngs={"dropout": KEY})
        return (logits**2).sum()

    return jax.jit(jax.value_and_grad(loss))(params)


KEY = jax.random.key(3)


def saved_for_backward(model, params):
    """How many numbers the forward pass leaves to the backward pass."""
    f = lambda p: model.apply({"params": p}, IMAGES, train=True, rngs={"dropout": KEY}).sum()
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(lambda p: jax.vjp(f, p)[1], params)))


def test_trees_and_initial_values_are_those_of_single_blocks():
    init = lambda model: model.init(jax.random.key(0), IMAGES)["params"]
    plain, other = init(TINY), init(TINY.clone(scan=True, remat="full"))
    jax.tree.map(np.testing.assert_array_equal, plain, other)


@pytest.mark.parametrize(
    "fields, ways",
    [
        ({}, [(False, "full"), (True, "dots")]),
        ({"depth_ramp": "block", "depth_rescale": False}, [(True, "full")]),
    ],
)
def test_masks_stay(fields, ways):
    model = TINY.clone(**fields)
    params = model.init(jax.random.key(0), IMAGES)["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), params)
    value, grads = gradient(model, params)
    for scan, remat in ways:
        found, found_grads = gradient(model.clone(scan=scan, remat=remat), params)
        np.testing.assert_allclose(found, value, rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found_grads, grads
        )


@pytest.mark.parametrize("scan", [False, True])
def test_less_is_kept_the_more_is_computed_again(scan):
    params = jax.eval_shape(TINY.init, jax.random.key(0), IMAGES)["params"]
    kept = [saved_for_backward(TINY.clone(scan=scan, remat=remat), params) for remat in REMAT]
    assert kept[0] > kept[1] > kept[2]


def test_unknown_remat_is_named():
    with pytest.raises(ValueError, match="remat='all': expected one of none, dots, full"):
        TINY.clone(remat="all").init(jax.random.key(0), IMAGES)

"""What the authors say of each family's training: rates of stochastic depth, first values."""

import jax
import numpy as np
import pytest

import mixer
from mixer.models import layers

IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32)


def depth_rates(model, monkeypatch):
    """Of every branch, in order, the probability that it is dropped."""
    rates = []

    def record(x, rate, key, place):
        rates.append(rate)
        return x

    monkeypatch.setattr(layers, "stochastic_depth", record)
    key = jax.random.key(0)
    params = jax.eval_shape(model.init, key, IMAGES)["params"]
    rates.clear()
    apply = lambda p, x: model.apply({"params": p}, x, train=True, rngs={"dropout": key})
    jax.eval_shape(apply, params, IMAGES)
    return rates


@pytest.mark.parametrize(
    "name, fields, expected",
    [
        ("ResMLP-S12", {"num_blocks": 3, "stochastic_depth": 0.3}, [0.3] * 6),
        ("gMLP-S", {"num_blocks": 3}, [0.05] * 3),
        ("gMLP-B", {"num_blocks": 3}, [0.2] * 3),
        ("ConvNeXt-T", {"num_blocks": (1, 2, 3)}, np.linspace(0, 0.1, 6)),
        ("NFNet-F0", {"num_blocks": (2, 3)}, [0, 0.05, 0.1, 0.15, 0.2]),
    ],
)
def test_rates_of_stochastic_depth(name, fields, expected, monkeypatch):
    model = mixer.create_model(name, 3, **fields)
    np.testing.assert_allclose(depth_rates(model, monkeypatch), expected, atol=1e-9)

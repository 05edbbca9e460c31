"""What the authors say of each family's training: rates of stochastic depth, first values."""

import functools
import operator

import jax
import numpy as np
import pytest

import mixer
from mixer.models.noise import Noise

IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32)


def depth_rates(model, monkeypatch):
    """Of every branch, in order, the probability that it is dropped."""
    rates = []

    def record(noise, x, place=2):
        rates.append(noise.rates)
        return x

    monkeypatch.setattr(Noise, "stochastic_depth", record)
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


@pytest.mark.parametrize(
    "name, array, mean, deviation",
    [
        ("ResMLP-S12", "ResMLPBlock_1/LayerScale_0/gamma", 0.1, 0),
        ("ResMLP-S24", "ResMLPBlock_1/LayerScale_1/gamma", 1e-5, 0),
        ("ResMLP-B24/16", "ResMLPBlock_0/token_mixing/kernel", 0, 0.02),
        ("gMLP-S", "GMLPBlock_1/token_mixing/kernel", 0, 1e-6),
        ("gMLP-S", "GMLPBlock_1/token_mixing/bias", 1, 0),
        ("ConvNeXt-T", "stage_1_block_0/LayerScale_0/gamma", 1e-6, 0),
        ("ConvNeXt-T", "stage_1_block_0/depthwise/kernel", 0, 0.02),
        ("NFNet-F0", "stage_0_block_0/skip_gain", 0, 0),
        ("NFNet-F0", "stage_0_block_0/conv_1/gain", 1, 0),
        ("NFNet-F0", "stage_0_block_0/conv_1/kernel", 0, (3 * 3 * 128) ** -0.5),
    ],
)
def test_first_values(name, array, mean, deviation):
    blocks = 2 if "MLP" in name else (1, 1)
    model = mixer.create_model(name, 3, num_blocks=blocks)
    pick = lambda params: functools.reduce(operator.getitem, array.split("/"), params)
    images = np.zeros((1, 64, 64, 3), np.float32)
    init = jax.jit(lambda key: pick(model.init(key, images)["params"]))  # only what is picked
    found = np.asarray(init(jax.random.key(0)), np.float64)
    assert found.mean() == pytest.approx(mean, rel=1e-6, abs=deviation / 2)
    assert found.std() == pytest.approx(deviation, rel=0.1, abs=1e-12)

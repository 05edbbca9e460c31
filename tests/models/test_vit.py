"""What only ViT has: pooling, the representation layer, the table of positions."""

import dataclasses

import jax
import numpy as np
import pytest

import mixer
from tools.timm_parity import CASES


@pytest.mark.parametrize(
    "fields, size, count",
    [
        ({}, 384, 86_859_496),
        ({"pooling": "gap"}, 224, 86_566_120),
        ({"representation_size": 768}, 224, 87_158_248),
        ({"pooling": "gap", "representation_size": 768}, 224, 87_156_712),
    ],
)
def test_counts_of_variants(fields, size, count):
    """ViT-B/16 in vision_transformer, with 1,000 classes."""
    model = mixer.create_model("ViT-B/16", 1000, **fields)
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_features_with_a_representation_layer():
    case = CASES["ViT"]
    wide = dataclasses.replace(case, fields=case.fields | {"representation_size": 7})
    layer, inputs = wide.params()["representation"], case.logits(num_classes=0)
    want = np.tanh(inputs @ layer["kernel"] + layer["bias"])
    np.testing.assert_allclose(wide.logits(num_classes=0), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ("ViT", "ViT-gap"))
def test_wrong_image_size_names_the_grids(name):
    images = np.zeros((1, 16, 16, 3), np.float32)
    with pytest.raises(ValueError, match="made for 6 tokens; .* are a 4 x 4 grid of 16 tokens"):
        CASES[name].model.apply({"params": CASES[name].params()}, images)


def test_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="pooling='map': expected 'token' or 'gap'"):
        jax.eval_shape(
            CASES["ViT"].model.clone(pooling="map").init,
            jax.random.key(0),
            np.zeros((1, 8, 12, 3), np.float32),
        )

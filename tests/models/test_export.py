"""Every family can be exported for any number of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tools import timm_parity

CASES = timm_parity.CASES | timm_parity.WITHOUT_FILES


@pytest.mark.parametrize("name", CASES)
def test_with_a_symbol_for_the_batch_size_the_logits_stay(name):
    """Exported, written, read again: on two images the logits that timm has, as the model has."""
    case = CASES[name]
    apply = jax.jit(lambda params, images: case.model.apply({"params": params}, images))
    shape = jax.export.symbolic_shape(f"b, {case.image_size[0]}, {case.image_size[1]}, 3")
    images, params = jax.ShapeDtypeStruct(shape, jnp.float32), case.params()
    with jax.default_matmul_precision("highest"):
        exported = jax.export.export(apply)(params, images)
    assert exported.out_avals[0].shape == (shape[0], 5)
    found = jax.export.deserialize(exported.serialize()).call(params, case.images())
    with np.load(timm_parity.FIXTURES / f"{name}.npz") as stored:
        np.testing.assert_allclose(found, stored["logits"], rtol=0, atol=timm_parity.TOLERANCE)

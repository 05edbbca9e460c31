"""Every family can be exported for any number of images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tools.timm_parity import CASES, FIXTURES, TOLERANCE, WITHOUT_FILES

# Those that take long to compile, with fewer blocks.
SHORTER = {
    "ConvNeXt": {"num_blocks": (1, 1), "widths": (4, 8)},
    "NFNet": {"num_blocks": (1,), "widths": (32,)},
    "HaloNet": {"num_blocks": (1,), "widths": (16,), "num_heads": (2,)},
}


@pytest.mark.parametrize("name", CASES | WITHOUT_FILES)
def test_with_a_symbol_for_the_batch_size_the_logits_stay(name):
    """Called with two images it gives the model's logits, which are stored where timm's are."""
    case = (CASES | WITHOUT_FILES)[name]
    if name in SHORTER:
        case = dataclasses.replace(case, fields=case.fields | SHORTER[name])
        expected = case.logits()
    else:
        with np.load(FIXTURES / f"{name}.npz") as stored:
            expected = stored["logits"]
    apply = jax.jit(lambda params, images: case.model.apply({"params": params}, images))
    shape = jax.export.symbolic_shape(f"b, {case.image_size[0]}, {case.image_size[1]}, 3")
    images, params = jax.ShapeDtypeStruct(shape, jnp.float32), case.params()
    with jax.default_matmul_precision("highest"):
        exported = jax.export.export(apply)(params, images)
    assert exported.out_avals[0].shape == (shape[0], 5)
    found = exported.call(params, case.images())
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)

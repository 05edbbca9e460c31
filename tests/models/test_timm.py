"""Our logits and arrays against timm's, which tools/timm_parity.py has stored."""

import numpy as np
import pytest

import mixer
from mixer.weights import formats
from tools import timm_parity

ALL = timm_parity.CASES | timm_parity.WITHOUT_FILES


@pytest.mark.parametrize("name", ALL)
def test_logits_are_timms(name):
    case = ALL[name]
    with np.load(timm_parity.FIXTURES / f"{name}.npz") as stored:
        expected = stored["logits"]
    # timm adds a little to the variance by which NFNet's weights are standardised.
    atol = timm_parity.TOLERANCE if name == "NFNet" else 1e-5
    np.testing.assert_allclose(case.logits(), expected, rtol=0, atol=atol)
    assert expected.std() > 0.3
    if hasattr(case.model, "gelu"):  # the other form is told apart
        assert np.abs(case.logits(gelu="tanh") - expected).max() > timm_parity.TOLERANCE


@pytest.mark.parametrize("name", timm_parity.CASES)
def test_arrays_are_timms(name, tmp_path):
    """By name, shape and value, as timm has loaded them."""
    case, path = timm_parity.CASES[name], tmp_path / "weights.safetensors"
    mixer.save_pretrained(path, case.params(), case.model)
    with np.load(timm_parity.FIXTURES / f"{name}.npz") as stored:
        expected = stored["state"].tolist()
    assert timm_parity.fingerprints(formats.read(path)) == expected

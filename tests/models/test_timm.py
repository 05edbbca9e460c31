"""Our logits against timm's, which tools/timm_parity.py has stored."""

import numpy as np
import pytest

from tools import timm_parity


@pytest.mark.parametrize("name", timm_parity.CASES)
def test_logits_are_timms(name):
    case = timm_parity.CASES[name]
    with np.load(timm_parity.FIXTURES / f"{name}.npz") as stored:
        expected = stored["logits"]
    np.testing.assert_allclose(case.logits(), expected, rtol=0, atol=timm_parity.TOLERANCE)
    assert expected.std() > 0.3
    if hasattr(case.model, "gelu"):  # the other form is told apart
        assert np.abs(case.logits(gelu="tanh") - expected).max() > timm_parity.TOLERANCE

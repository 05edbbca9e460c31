import jax
import pytest


@pytest.fixture(autouse=True)
def strict_promotion():
    """Models mix no dtypes by accident. (optax does, so the training room cannot have this.)"""
    with jax.numpy_dtype_promotion("strict"):
        yield

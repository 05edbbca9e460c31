"""Functions of JAX in TensorFlow, which is imported only where a program needs it."""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from mixer import errors

_PLATFORMS = ("cpu", "cuda", "tpu")


def load():
    """The modules tensorflow and jax2tf.

    Raises:
      BadInput: one of them is missing.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with quiet():
            import tensorflow
    except ImportError:
        raise errors.BadInput(
            "a program for TensorFlow needs the package tensorflow: "
            "pip install -r requirements-tensorflow.txt (or 'mlp-mixer-jax[tensorflow]')"
        ) from None
    try:
        from jax.experimental import jax2tf
    except ImportError as error:
        raise errors.BadInput(
            f"this version of JAX cannot write programs for TensorFlow: {error}"
        ) from None
    tensorflow.config.set_visible_devices([], "GPU")  # JAX has them
    return tensorflow, jax2tf


def served(function: Callable, params: Any, shape: tuple[int, int, int], batch: int | None = None):
    """A tf.function of uint8 `images` [N, *shape] that returns {"logits": ...}.

    Args:
      function: (params, images) -> logits, in JAX.
      params: arrays, or variables of TensorFlow.
      batch: N; None for any.
    """
    tf, jax2tf = load()
    call = jax2tf.convert(
        function,
        polymorphic_shapes=(None, None if batch else "(batch, ...)"),
        native_serialization_platforms=_PLATFORMS,
    )
    spec = tf.TensorSpec((batch, *shape), tf.uint8, name="images")
    return tf.function(
        lambda images: {"logits": call(params, images)}, autograph=False, input_signature=[spec]
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what TensorFlow says of its own parts, such as gradients that are not used."""
    logger = logging.getLogger("absl")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)

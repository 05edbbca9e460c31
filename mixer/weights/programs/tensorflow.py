"""Functions of JAX in TensorFlow, which is imported only where a program needs it."""

import os
from collections.abc import Callable
from typing import Any

from mixer import errors
from mixer.weights.programs.quiet import quiet

LOGGER = "absl"  # TensorFlow's
_PLATFORMS = ("cpu", "cuda", "tpu")


def load():
    """The modules tensorflow and jax2tf.

    Raises:
      BadInput: one of them is missing.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with quiet(LOGGER):
            import tensorflow
    except ImportError:
        raise errors.needs_package("a program for TensorFlow", "tensorflow", "tensorflow") from None
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

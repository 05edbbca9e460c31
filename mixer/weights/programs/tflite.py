"""TFLite, now LiteRT, by jax2tf and TensorFlow's converter, with its built-in operations only.

They have no gather for batches of any size, so a program takes one image at a time.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mixer import storage
from mixer.weights.programs import tensorflow
from mixer.weights.programs.quiet import quiet

# ai_edge_litert.interpreter.Interpreter is the same without TensorFlow.
USE = "tf.lite.Interpreter(PATH).get_signature_runner()(images=images)['logits']"
BATCH = 1


def check() -> None:
    """See `programs.Format`."""
    tensorflow.load()


def write(path: Path, function: Callable, params: Any, shape: tuple[int, int, int]) -> None:
    """See `programs.Format`."""
    tf, _ = tensorflow.load()

    def with_params(_, images):  # as constants, not variables
        return function(params, images)

    module = tf.Module()
    module.serve = tensorflow.served(with_params, (), shape, BATCH)
    with quiet(tensorflow.LOGGER):
        concrete = [module.serve.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(concrete, module)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        content = converter.convert()
    with storage.write_whole(path) as file:
        file.write(content)


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """See `programs.Format`."""
    tf, _ = tensorflow.load()
    with quiet(tensorflow.LOGGER):
        interpreter = tf.lite.Interpreter(str(path))
    logits = interpreter.get_signature_runner()
    return np.concatenate([logits(images=image[None])["logits"] for image in images])

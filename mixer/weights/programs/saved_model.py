"""TensorFlow's SavedModel by jax2tf, for TensorFlow and TF Serving, its parameters as variables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mixer import storage
from mixer.weights.programs import tensorflow
from mixer.weights.programs.quiet import quiet

USE = "tf.saved_model.load(PATH).signatures['serving_default'](images=images)['logits']"
BATCH = "batch"  # any number


def check() -> None:
    """See `programs.Format`."""
    tensorflow.load()


def write(path: Path, function: Callable, params: Any, shape: tuple[int, int, int]) -> None:
    """See `programs.Format`."""
    tf, _ = tensorflow.load()
    with storage.write_whole_folder(path) as new:
        module = tf.Module()
        module.params = jax.tree.map(lambda x: tf.Variable(np.asarray(x)), params)
        module.serve = tensorflow.served(function, module.params, shape)
        tf.saved_model.save(module, str(new), signatures=module.serve)


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """See `programs.Format`."""
    tf, _ = tensorflow.load()
    with quiet(tensorflow.LOGGER):
        served = tf.saved_model.load(str(path)).signatures["serving_default"]
    return served(images=tf.constant(images))["logits"].numpy()

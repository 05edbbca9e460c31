"""The batch contract between the data room and the training room.

A batch is a dict of arrays with one leading axis:
    image: uint8 [B, H, W, 3], RGB
    label: int32 [B], the class; -1 in padding. Where examples have several labels, int32 [B, L]:
        their classes in any order, perhaps none, perhaps some twice, filled up with -1
    mask:  bool [B], False in padding
The host ships bytes; the value range is made on the device, inside the jitted step.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Batch = dict[str, np.ndarray | jax.Array]
Array = TypeVar("Array", np.ndarray, jax.Array)


def to_model_input(image: Array) -> Array:
    """uint8 [B, H, W, 3] -> float32 in [-1, 1]: x / 255 * 2 - 1."""
    return image.astype(jnp.float32) / 255.0 * 2.0 - 1.0


def _sets(label: jax.Array) -> jax.Array:
    return label.reshape(len(label), -1)


def multi_hot(label: jax.Array, num_classes: int) -> jax.Array:
    """A batch's labels as float32 [B, K]: 1 at an example's classes, else 0.

    It is made by comparing, not by scattering or adding: the compiler fuses that into what uses it,
    so that nothing as large as [B, L, K] exists, and a class that is there twice counts once.
    """
    return (_sets(label)[:, :, None] == jnp.arange(num_classes)).any(axis=1).astype(jnp.float32)


def hits(logits: jax.Array, label: jax.Array) -> jax.Array:
    """bool [B]: whether the class of the largest logit is among the example's labels."""
    return (logits.argmax(axis=-1)[:, None] == _sets(label)).any(axis=1)


def labelled(label: jax.Array) -> jax.Array:
    """bool [B]: whether the example has a label at all."""
    return (_sets(label) >= 0).any(axis=1)


def padding(image_size: tuple[int, int], max_labels: int = 0) -> dict[str, np.ndarray]:
    """The row that fills up an evaluation's last batch; it counts nowhere.

    `max_labels` is L; 0 for data with one label each.
    """
    return {
        "image": np.zeros((*image_size, 3), np.uint8),
        "label": np.full((max_labels,) if max_labels else (), -1, np.int32),
        "mask": np.bool_(False),
    }


def spec(
    batch_size: int, image_size: tuple[int, int], max_labels: int = 0
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a global batch."""
    row = padding(image_size, max_labels)
    return {k: jax.ShapeDtypeStruct((batch_size, *v.shape), v.dtype) for k, v in row.items()}

"""The format of a batch, which the data and training rooms share.

A batch is a dict of arrays with one leading axis:
    image: uint8 [B, H, W, C]; C = 3, RGB, unless the model says otherwise by its field `in_chans`
    label: int32 [B], the class; -1 in padding. If examples can have several labels, int32 [B, L]:
        their classes in any order, possibly none, possibly repeated, padded with -1.
        If the source gives vectors, float32 [B, K]: a number for each output of the model, such as
        a distribution over the classes, or what a regression learns; 0 in padding
    mask:  bool [B], False in padding
The host sends bytes; the jitted step scales them to the range of the model's input on the device.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Batch = dict[str, np.ndarray | jax.Array]
Array = TypeVar("Array", np.ndarray, jax.Array)


def to_model_input(image: Array) -> Array:
    """uint8 [B, H, W, C] -> float32 in [-1, 1]: x / 255 * 2 - 1."""
    return image.astype(jnp.float32) / 255.0 * 2.0 - 1.0


def channels(model: Any) -> int:
    """C, the number of channels of a model's images; 3 for a family without the field."""
    return getattr(model, "in_chans", 3)


def are_vectors(label: jax.Array) -> bool:
    """Whether a label is a number for each output, and not classes."""
    return jnp.issubdtype(label.dtype, jnp.floating)


def _sets(label: jax.Array) -> jax.Array:
    return label.reshape(len(label), -1)


def multi_hot(label: jax.Array, num_classes: int) -> jax.Array:
    """The labels of a batch as float32 [B, K]: 1 at the classes of an example, else 0.

    Labels that are vectors stay as they are.

    It compares instead of scattering or adding: the compiler fuses the comparison into its
    consumer, so no array of size [B, L, K] exists, and a repeated class counts once.
    """
    if are_vectors(label):
        return label
    return (_sets(label)[:, :, None] == jnp.arange(num_classes)).any(axis=1).astype(jnp.float32)


def hits(logits: jax.Array, label: jax.Array) -> jax.Array:
    """bool [B]: whether the class with the largest logit is among the labels of the example.

    Of a vector, the label is its largest entry, or those that share this value.
    """
    if are_vectors(label):
        of_best = jnp.take_along_axis(label, logits.argmax(axis=-1)[:, None], axis=1)
        return of_best[:, 0] >= label.max(axis=-1)
    return (logits.argmax(axis=-1)[:, None] == _sets(label)).any(axis=1)


def has_label(label: jax.Array) -> jax.Array:
    """bool [B]: whether the example has at least one label, or a vector that is not 0."""
    if are_vectors(label):
        return (label > 0).any(axis=1)
    return (_sets(label) >= 0).any(axis=1)


def padding(
    image_size: tuple[int, int], max_labels: int = 0, outputs: int = 0, channels: int = 3
) -> dict[str, np.ndarray]:
    """The row that pads the last batch of an evaluation; no metric counts it.

    Args:
      max_labels: L; 0 for data with one label per example.
      outputs: K, if labels are vectors; else 0.
      channels: C.
    """
    classes = np.full((max_labels,) if max_labels else (), -1, np.int32)
    return {
        "image": np.zeros((*image_size, channels), np.uint8),
        "label": np.zeros(outputs, np.float32) if outputs else classes,
        "mask": np.bool_(False),
    }


def spec(
    batch_size: int,
    image_size: tuple[int, int],
    max_labels: int = 0,
    outputs: int = 0,
    channels: int = 3,
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a global batch."""
    row = padding(image_size, max_labels, outputs, channels)
    return {k: jax.ShapeDtypeStruct((batch_size, *v.shape), v.dtype) for k, v in row.items()}

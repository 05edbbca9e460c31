"""The batch contract between the data room and the training room.

A batch is a dict of arrays with one leading axis:
    image: uint8 [B, H, W, 3], RGB
    label: int32 [B], the class; -1 in padding
    mask:  bool [B], False in padding
The host ships bytes; the value range is made on the device, inside the jitted step.
"""

import jax
import jax.numpy as jnp
import numpy as np

Batch = dict[str, np.ndarray | jax.Array]


def to_model_input(image: jax.Array) -> jax.Array:
    """uint8 [B, H, W, 3] -> float32 in [-1, 1]: x / 255 * 2 - 1."""
    return image.astype(jnp.float32) / 255.0 * 2.0 - 1.0


def padding(image_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """The row that fills up an evaluation's last batch; it counts nowhere."""
    return {
        "image": np.zeros((*image_size, 3), np.uint8),
        "label": np.int32(-1),
        "mask": np.bool_(False),
    }


def spec(batch_size: int, image_size: tuple[int, int]) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and dtypes of a global batch."""
    row = padding(image_size)
    return {k: jax.ShapeDtypeStruct((batch_size, *v.shape), v.dtype) for k, v in row.items()}

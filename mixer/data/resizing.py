"""Resizes images, uint8 [H, W, C] -> uint8 [height, width, C], or computes a window of that."""

import math

import cv2
import numpy as np
from PIL import Image

Window = tuple[int, int, int, int]  # top, left, height, width

# Up to this many pixels, compute the whole bicubic image; above, only the window, which Pillow
# rounds differently.
_WHOLE = 2**23


def _truncate(image: np.ndarray) -> np.ndarray:
    # TensorFlow's cast to uint8 truncates. OpenCV's weights sum to 1 only up to rounding; the
    # margin keeps a constant image constant.
    image += np.float32(2.0**-11)
    return image.astype(np.uint8)


def _by_opencv(image: np.ndarray, height: int, width: int, method: int) -> np.ndarray:
    """OpenCV's float32 [height, width, C], in groups: its area method takes four channels."""
    pixels = image.astype(np.float32)
    groups = [pixels[:, :, first : first + 4] for first in range(0, image.shape[2], 4)]
    made = [cv2.resize(group, (width, height), interpolation=method) for group in groups]
    return made[0] if len(made) == 1 else np.dstack(made)  # of one channel OpenCV makes [H, W]


def resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes bilinearly: half-pixel centres, no antialiasing, truncated to uint8."""
    if image.shape[:2] == (height, width):
        return image
    return _truncate(_by_opencv(image, height, width, cv2.INTER_LINEAR))


def resize_area(
    image: np.ndarray, height: int, width: int, window: Window | None = None
) -> np.ndarray:
    """Makes each new pixel the mean of the old area under it, truncated to uint8.

    Args:
      window: the part of the new image to compute; by default all of it.
    """
    top, left, tall, wide = window or (0, 0, height, width)
    if image.shape[:2] == (height, width):
        return image[top : top + tall, left : left + wide]
    if height <= image.shape[0] and width <= image.shape[1]:
        resized = _by_opencv(image, height, width, cv2.INTER_AREA)
        return _truncate(resized[top : top + tall, left : left + wide])
    # OpenCV's area method interpolates when it enlarges; TensorFlow's does not.
    scale = image.shape[1] / width
    first, last = math.floor(left * scale), math.ceil((left + wide) * scale)
    rows = _area_means(image[:, first:last], 0, image.shape[0], height, range(top, top + tall))
    across = rows.swapaxes(0, 1)
    columns = _area_means(across, first, image.shape[1], width, range(left, left + wide))
    return _truncate(columns.swapaxes(0, 1))


def _area_means(image: np.ndarray, first: int, old: int, new: int, wanted: range) -> np.ndarray:
    """Resizes `old` rows to `new` rows and returns the `wanted` ones, float32.

    Args:
      image: at least the old rows that lie under the wanted ones.
      first: the index of its first row among the old ones.
    """
    edges = np.arange(wanted.start, wanted.stop + 1) * (old / new)
    begin, end = edges[:-1], edges[1:]
    means = np.float32(0)
    for place in range(math.ceil(old / new) + 1):
        row = np.floor(begin).astype(int) + place
        share = np.clip(np.minimum(end, row + 1) - np.maximum(begin, row), 0, None) * (new / old)
        share = np.where(row < old, share, 0).astype(np.float32)[:, None, None]
        under = image[np.clip(row - first, 0, len(image) - 1)]
        # Product and sum are rounded only once, like a processor's fused multiply-add.
        means = (means + share.astype(np.float64) * under).astype(np.float32)
    return means


def resize_bicubic(
    image: np.ndarray, height: int, width: int, window: Window | None = None
) -> np.ndarray:
    """Resizes as Pillow does: antialiased, along rows, then columns, each rounded to uint8.

    Args:
      window: the part of the new image to compute; by default all of it.
    """
    if image.shape[2] != 3:
        channels = np.moveaxis(image, 2, 0)[..., None].repeat(3, axis=3)
        made = [resize_bicubic(grey, height, width, window)[:, :, 0] for grey in channels]
        return np.stack(made, axis=2)
    top, left, tall, wide = window or (0, 0, height, width)
    old = Image.fromarray(image)
    if height * width <= _WHOLE:
        resized = np.array(old.resize((width, height), Image.Resampling.BICUBIC))
        return resized[top : top + tall, left : left + wide]
    across, down = image.shape[1] / width, image.shape[0] / height
    box = (left * across, top * down, (left + wide) * across, (top + tall) * down)
    return np.array(old.resize((wide, tall), Image.Resampling.BICUBIC, box))

"""Colours to grey, for models of one channel."""

import numpy as np

# The weights of red, green and blue (ITU-R BT.601), in 2^-16; they sum to 1.
_LUMA = np.array((19595, 38470, 7471), np.uint32)


def grey(image: np.ndarray) -> np.ndarray:
    """RGB, uint8 [H, W, 3] -> uint8 [H, W, 1]: the luma, rounded as Pillow does.

    An image whose channels are equal keeps its values.
    """
    luma = image.astype(np.uint32) @ _LUMA
    return ((luma + 2**15) >> 16).astype(np.uint8)[:, :, None]

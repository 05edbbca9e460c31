"""A table of learned positions for another grid of patches.

Bilinear, the corners of the old grid on those of the new, as vision_transformer does it
(`scipy.ndimage.zoom` of order 1), in both directions. (`jax.image.resize` and timm put the outer
edges on each other instead.)
"""

import numpy as np


def resized(table: np.ndarray, old: tuple[int, int], new: tuple[int, int]) -> np.ndarray:
    """The table [1, rows, D] for the grid `new`, float32.

    Args:
      table: its last rows are those of the grid `old`, in raster order; what precedes them, the
        class token's, stays.
    """
    count = old[0] * old[1]
    kept, patches = table[:, :-count], table[0, -count:].reshape(*old, -1)
    down, across = (_between(o, n) for o, n in zip(old, new, strict=True))
    patches = np.einsum("ai,bj,ijd->abd", down, across, patches)
    return np.concatenate([kept, patches.reshape(1, -1, table.shape[2])], 1).astype(np.float32)


def _between(old: int, new: int) -> np.ndarray:
    """[new, old]: of each new place the weights of the two old ones that it lies between."""
    places = np.linspace(0, old - 1, new)
    return np.maximum(0, 1 - np.abs(np.arange(old) - places[:, None]))

"""Figure 4's input permutations: one fixed permutation moves the pixels of every image.

`permute_patches` is case (b) of the figure, `permute_pixels` case (c); without either it is (a).
Both move whole pixels, all three channels together, and take and return uint8 [H, W, 3]. Put them
last in the chain, with the same seed in training and evaluation.
"""

import dataclasses
import functools

import numpy as np

from mixer.data.transforms import register_transform


@functools.cache
def patch_order(grid: tuple[int, int], patch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [S], int64 [P * P]): patch i comes from `[0][i]`, pixel j of each from `[1][j]`.

    Args:
      grid: rows and columns of patches; S is their product. Patches and pixels count row by row.
      patch_size: P, in pixels.
    """
    rng = np.random.default_rng(seed)
    return rng.permutation(grid[0] * grid[1]), rng.permutation(patch_size**2)


@functools.cache
def _pixel_order(pixels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(pixels)


@register_transform("permute_patches")
@dataclasses.dataclass(frozen=True)
class PermutePatches:
    """Shuffles the P x P patches, and the pixels within each patch in the same way for all."""

    patch_size: int
    seed: int = 0

    def __post_init__(self):
        if not isinstance(self.patch_size, int) or self.patch_size < 1:
            raise ValueError(f"patch_size {self.patch_size!r} is not a positive integer")

    def __call__(self, image, rng):
        side = self.patch_size
        height, width, channels = image.shape
        if height % side or width % side:
            raise ValueError(f"patches of {side} pixels do not tile {height} x {width}")
        rows, columns = height // side, width // side
        patches, pixels = patch_order((rows, columns), side, self.seed)
        tiled = image.reshape(rows, side, columns, side, channels).swapaxes(1, 2)
        moved = tiled.reshape(rows * columns, side * side, channels)[patches][:, pixels]
        tiled = moved.reshape(rows, columns, side, side, channels).swapaxes(1, 2)
        return np.ascontiguousarray(tiled.reshape(image.shape))


@register_transform("permute_pixels")
@dataclasses.dataclass(frozen=True)
class PermutePixels:
    """Shuffles all pixels of the image."""

    seed: int = 0

    def __call__(self, image, rng):
        height, width, channels = image.shape
        order = _pixel_order(height * width, self.seed)
        return image.reshape(height * width, channels)[order].reshape(image.shape)

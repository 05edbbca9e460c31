"""What the augmentations share: they draw operations, apply them, and can report what they drew."""

from collections.abc import Callable
from typing import Any

import numpy as np

# (uint8 [H, W, 3], keyword arguments) -> uint8 [H, W, 3]
Operation = Callable[..., np.ndarray]


class Augmentation:
    """A transform that applies the operations that `draw` returns, in their order."""

    rgb_only = True

    def draw(
        self, size: tuple[int, int], rng: np.random.Generator
    ) -> list[tuple[Operation, dict[str, Any]]]:
        """Operations with their arguments, for an image of this (height, width)."""
        raise NotImplementedError

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for operation, arguments in self.draw(image.shape[:2], rng):
            image = operation(image, **arguments)
        return image

    def drawn(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, list[str]]:
        """The operations with their arguments, as "rotate(degrees=-30.0)"."""
        return {
            "operations": [
                f"{operation.__name__}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
                for operation, arguments in self.draw(image.shape[:2], rng)
            ]
        }

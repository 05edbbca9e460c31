"""Random erasing (Zhong et al. 2020): a rectangle of the image is replaced. Put it last.

Its law and defaults are timm's: one rectangle, noise or colours that are normal in the units of
images normalised by ImageNet's mean and deviation. In the paper they are uniform in 0 ... 255.
"""

import dataclasses
import math

import numpy as np

from mixer.data.augmentation import Augmentation
from mixer.data.transforms import register_transform

_TRIES = 10
# Of ImageNet's pixels, by channel.
_MEAN = 255 * np.array([0.485, 0.456, 0.406], np.float32)
_DEVIATION = 255 * np.array([0.229, 0.224, 0.225], np.float32)


def erase(
    image: np.ndarray, top: int, left: int, height: int, width: int, value: int | tuple[int, ...]
) -> np.ndarray:
    """Fills a rectangle with a grey, or with a colour (r, g, b)."""
    erased = image.copy()
    erased[top : top + height, left : left + width] = value
    return erased


def erase_with_noise(
    image: np.ndarray, top: int, left: int, height: int, width: int, seed: int
) -> np.ndarray:
    """Fills a rectangle with the noise of a seed, each pixel a colour of its own."""
    return erase(
        image, top, left, height, width, _colours(np.random.default_rng(seed), height, width)
    )


def _colours(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """uint8 [..., 3], normal like ImageNet's pixels; rounded, and clipped to 0 ... 255."""
    noise = _MEAN + _DEVIATION * rng.standard_normal((*shape, 3), np.float32)
    return np.rint(noise).clip(0, 255).astype(np.uint8)


@register_transform("random_erasing")
@dataclasses.dataclass(frozen=True)
class RandomErasing(Augmentation):
    """Erases one rectangle.

    Attributes:
      probability: of erasing anything.
      area: (low, high) share of the image, uniform; a share, not percent.
      aspect: (low, high) height / width, uniform in its logarithm.
      value: "pixel" (noise), "color" (one random colour), a grey of 0 ... 255, or (r, g, b).
    """

    probability: float = 0.5
    area: tuple[float, float] = (0.02, 1 / 3)
    aspect: tuple[float, float] = (0.3, 1 / 0.3)
    value: int | tuple[int, int, int] | str = "pixel"

    def __post_init__(self):
        if not 0 < self.probability <= 1:
            raise ValueError(f"probability {self.probability!r} is not in 0 < probability <= 1")
        low, high = self.area
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"area {self.area!r} is not (low, high) shares of the image, 0 < low <= high <= 1"
            )
        low, high = self.aspect
        if not 0 < low <= high < math.inf:
            raise ValueError(f"aspect {self.aspect!r} is not (low, high), 0 < low <= high")
        if self.value not in ("pixel", "color") and not _is_colour(self.value):
            raise ValueError(
                f"value {self.value!r} is not 'pixel', 'color', a grey of 0 ... 255 or (r, g, b)"
            )

    def draw(self, size, rng):
        if rng.random() >= self.probability:
            return []
        box = self.box(size, rng)
        if box is None:
            return []
        place = dict(zip(("top", "left", "height", "width"), box, strict=True))
        if self.value == "pixel":
            return [(erase_with_noise, place | {"seed": int(rng.integers(2**32))})]
        value = tuple(_colours(rng).tolist()) if self.value == "color" else self.value
        return [(erase, place | {"value": value})]

    def box(
        self, size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[int, int, int, int] | None:
        """(top, left, height, width), smaller than the image; None if none of ten tries is."""
        height, width = size
        for _ in range(_TRIES):
            area = rng.uniform(*self.area) * height * width
            aspect = math.exp(rng.uniform(*map(math.log, self.aspect)))
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width:
                top = int(rng.integers(height - tall + 1))
                return top, int(rng.integers(width - wide + 1)), tall, wide
        return None


def _is_colour(value: object) -> bool:
    channels = value if isinstance(value, tuple) else (value,)
    return len(channels) in (1, 3) and all(
        isinstance(channel, int) and 0 <= channel <= 255 for channel in channels
    )

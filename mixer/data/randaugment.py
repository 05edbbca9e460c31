"""RandAugment as used to train Google's image models: 16 operations, always applied.

Cubuk et al. 2020 as implemented in the TPU EfficientNet code, which big_vision adopted. PyTorch's
versions differ in nearly every operation, so they cannot replace it. All operations take and return
uint8 [H, W, 3].
"""

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np

from mixer.data.augmentation import Augmentation, Operation
from mixer.data.transforms import register_transform

FILL = 128


def _lut(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Maps each value through `table`, uint8 [256] or [256, 3]."""
    return cv2.LUT(image, table.reshape(1, 256, -1))


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel to 0 ... 255, in float32, truncated."""
    low, high = np.float32([cv2.minMaxLoc(channel)[:2] for channel in cv2.split(image)]).T
    x = np.arange(256, dtype=np.float32)[:, None]
    scale = np.float32(255) / np.maximum(high - low, 1)
    stretched = (x * scale - low * scale).clip(0, 255)
    return _lut(image, np.where(high > low, stretched, x).astype(np.uint8))


def equalize(image: np.ndarray) -> np.ndarray:
    """Flattens each channel's histogram, by PIL's algorithm."""
    table = np.empty((256, 3), np.uint8)
    for channel in range(3):
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256])
        histogram = counts.ravel().astype(np.int64)
        last = histogram[histogram.nonzero()[0][-1]]
        step = (histogram.sum() - last) // 255
        if step == 0:
            table[:, channel] = np.arange(256)
        else:
            before = np.cumsum(histogram) - histogram
            table[:, channel] = ((before + step // 2) // step).clip(0, 255)
    return _lut(image, table)


def invert(image: np.ndarray) -> np.ndarray:
    """255 - x."""
    return 255 - image


def posterize(image: np.ndarray, bits: int) -> np.ndarray:
    """Keeps the upper bits, at least one."""
    return image & np.uint8(256 - (1 << min(8 - bits, 7)))


def solarize(image: np.ndarray, threshold: int) -> np.ndarray:
    """Inverts the values from the threshold on."""
    x = np.arange(256)
    return _lut(image, np.where(x < threshold, x, 255 - x).astype(np.uint8))


def solarize_add(image: np.ndarray, addition: int) -> np.ndarray:
    """Adds to the values below 128."""
    x = np.arange(256)
    table = np.where(x < 128, (x + addition).clip(0, 255), x)
    return _lut(image, table.astype(np.uint8))


def blend(degenerate: np.ndarray, image: np.ndarray, factor: float) -> np.ndarray:
    """degenerate + factor * (image - degenerate), float32, clipped and truncated."""
    start, mixed = degenerate.astype(np.float32), image.astype(np.float32)
    mixed -= start
    mixed *= np.float32(factor)
    mixed += start
    return np.clip(mixed, 0, 255, out=mixed).astype(np.uint8)


def _blend_with_constant(value: int, image: np.ndarray, factor: float) -> np.ndarray:
    return _lut(image, blend(np.array(value), np.arange(256), factor))


def grey(image: np.ndarray) -> np.ndarray:
    """Luma, uint8 [H, W], weighted, scaled and truncated as in TensorFlow."""
    weights = np.array([0.2989, 0.5870, 0.1140], np.float32)
    return (image.astype(np.float32) / 255 @ weights * np.float32(255.5)).astype(np.uint8)


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Extrapolates away from the grey image, or interpolates towards it for a factor below 1."""
    return blend(cv2.merge([grey(image)] * 3), image, factor)


def contrast(image: np.ndarray, factor: float, mean: float | None = None) -> np.ndarray:
    """Like `color`, with the constant grey `mean`, by default the image's mean grey."""
    mean = grey(image).mean() if mean is None else mean
    return _blend_with_constant(min(int(mean), 255), image, factor)


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Like `color`, with black."""
    return _blend_with_constant(0, image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Like `color`, with the image smoothed by a 3x3 kernel of ones, 5 in the centre, over 13.

    The border pixels do not change.
    """
    smooth = image.copy()
    total = cv2.boxFilter(image, cv2.CV_16U, (3, 3), normalize=False) + 4 * image.astype(np.uint16)
    smooth[1:-1, 1:-1] = total[1:-1, 1:-1] // np.uint16(13)
    return blend(smooth, image, factor)


def affine(image: np.ndarray, matrix: tuple[float, ...]) -> np.ndarray:
    """Output (x, y) is input (ax + by + c, dx + ey + f), nearest pixel; grey outside the image."""
    a, b, c, d, e, f = map(np.float32, matrix)
    height, width = image.shape[:2]
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    source = np.empty((height, width, 2), np.int16)
    source[..., 0] = _nearest(a * x + b * y + c)
    source[..., 1] = _nearest(d * x + e * y + f)
    return cv2.remap(image, source, None, cv2.INTER_NEAREST, borderValue=(FILL,) * 3)


def _nearest(coordinate: np.ndarray) -> np.ndarray:
    # Halves round away from zero, as in C; the assignment to integers truncates.
    return coordinate + np.copysign(np.float32(0.5), coordinate)


def rotate(image: np.ndarray, degrees: float) -> np.ndarray:
    """Rotates about the centre."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    w, h = image.shape[1] - 1, image.shape[0] - 1
    c, f = (w - (cos * w - sin * h)) / 2, (h - (sin * w + cos * h)) / 2
    return affine(image, (cos, -sin, c, sin, cos, f))


def shear_x(image: np.ndarray, slope: float) -> np.ndarray:
    """Output (x, y) is input (x + slope y, y)."""
    return affine(image, (1, slope, 0, 0, 1, 0))


def shear_y(image: np.ndarray, slope: float) -> np.ndarray:
    """Output (x, y) is input (x, slope x + y)."""
    return affine(image, (1, 0, 0, slope, 1, 0))


def translate_x(image: np.ndarray, pixels: float) -> np.ndarray:
    """Shifts the image left by `pixels`, rounded."""
    return translate_y(image.swapaxes(0, 1), pixels).swapaxes(0, 1)


def translate_y(image: np.ndarray, pixels: float) -> np.ndarray:
    """Shifts the image up by `pixels`, rounded."""
    shift = min(max(round(pixels), -len(image)), len(image))
    moved = np.full_like(image, FILL)
    if shift >= 0:
        moved[: len(image) - shift] = image[shift:]
    else:
        moved[-shift:] = image[:shift]
    return moved


def cutout(image: np.ndarray, pad: int, x: int, y: int) -> np.ndarray:
    """Puts a grey square of side 2 pad at (x, y), clipped at the image's borders."""
    cut = image.copy()
    cut[max(y - pad, 0) : y + pad, max(x - pad, 0) : x + pad] = FILL
    return cut


@register_transform("randaug")
@dataclasses.dataclass(frozen=True)
class RandAugment(Augmentation):
    """Applies `layers` operations, drawn with replacement, all with the same magnitude.

    Attributes:
      layers: the number of operations in a row; 2 in the paper.
      magnitude: M in 0 ... 20 (table 4: 10, 15, 20). It is not clipped at 10, the maximum of other
        implementations. Even M = 0 changes images.
      quirks: True reproduces the original code: contrast's "mean" is the number of pixels over 256,
        at most 255, whatever the image; solarize's threshold wraps at 256, so that M = 10 and 20
        invert everything. False uses the true mean and the true threshold.
    """

    layers: int
    magnitude: float
    quirks: bool = True

    def __post_init__(self):
        if not isinstance(self.layers, int) or self.layers < 0:
            raise ValueError(f"layers {self.layers!r} is not a non-negative integer")
        if not 0 <= self.magnitude <= 20:
            raise ValueError(f"magnitude {self.magnitude!r} is not in 0 ... 20")

    def draw(self, size, rng):
        found = []
        for _ in range(self.layers):
            operation, arguments = OPERATIONS[rng.integers(len(OPERATIONS))]
            found.append((operation, arguments(self, size, rng)))
        return found

    @property
    def r(self) -> float:
        """M / 10, the scale of all arguments."""
        return self.magnitude / 10

    def _enhance(self) -> float:
        return 1.8 * self.r + 0.1

    def _signed(self, scale: float, rng: np.random.Generator) -> float:
        return scale * self.r * (1 if rng.random() < 0.5 else -1)

    def _contrast(self, size, rng):
        mean = size[0] * size[1] / 256 if self.quirks else None
        return {"factor": self._enhance(), "mean": mean}

    def _solarize(self, size, rng):
        threshold = int(256 * self.r)
        return {"threshold": threshold % 256 if self.quirks else threshold}

    def _cutout(self, size, rng):
        y, x = int(rng.integers(size[0])), int(rng.integers(size[1]))
        return {"pad": int(40 * self.r), "x": x, "y": y}


def _none(self, size, rng):
    return {}


def _enhanced(self, size, rng):
    return {"factor": self._enhance()}


# (operation, function that draws its arguments, given (height, width)).
OPERATIONS: tuple[tuple[Operation, Callable[..., dict]], ...] = (
    (autocontrast, _none),
    (equalize, _none),
    (invert, _none),
    (rotate, lambda self, size, rng: {"degrees": self._signed(30, rng)}),
    (posterize, lambda self, size, rng: {"bits": int(4 * self.r)}),
    (solarize, RandAugment._solarize),
    (color, _enhanced),
    (contrast, RandAugment._contrast),
    (brightness, _enhanced),
    (sharpness, _enhanced),
    (shear_x, lambda self, size, rng: {"slope": self._signed(0.3, rng)}),
    (shear_y, lambda self, size, rng: {"slope": self._signed(0.3, rng)}),
    (translate_x, lambda self, size, rng: {"pixels": self._signed(100, rng)}),
    (translate_y, lambda self, size, rng: {"pixels": self._signed(100, rng)}),
    (cutout, RandAugment._cutout),
    (solarize_add, lambda self, size, rng: {"addition": int(110 * self.r)}),
)

"""Pillow's enhancements, as torchvision's transforms use them on images that are not tensors.

All take and return uint8 [H, W, 3]. A `factor` of 1 changes nothing. RandAugment has its own, which
are TensorFlow's: their grey and their rounding are others.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps


def _enhanced(enhancer: Callable, image: np.ndarray, factor: float) -> np.ndarray:
    return np.asarray(enhancer(Image.fromarray(image)).enhance(factor))


def brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Between black (0) and the image (1), or beyond it."""
    return _enhanced(ImageEnhance.Brightness, image, factor)


def contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Like `brightness`, from the image's mean grey."""
    return _enhanced(ImageEnhance.Contrast, image, factor)


def color(image: np.ndarray, factor: float) -> np.ndarray:
    """Like `brightness`, from the grey image: the saturation."""
    return _enhanced(ImageEnhance.Color, image, factor)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Like `brightness`, from the smoothed image."""
    return _enhanced(ImageEnhance.Sharpness, image, factor)


def autocontrast(image: np.ndarray) -> np.ndarray:
    """Stretches each channel to 0 ... 255."""
    return np.asarray(ImageOps.autocontrast(Image.fromarray(image)))


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Turns the hue by this part of its circle, in steps of 1/255, rounded towards 0."""
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(int(turn * 255) % 256)  # wraps at 256
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))

"""Figures 5 to 7: what the hidden units of token mixing, and those of the stem, look for."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mixer.paper.style import styled

_WIDTH = 7.0  # inches of a whole figure
_MARGIN = 0.06  # inches left, right and below
_DOTS = 2100  # across it, at least: viewers of SVG smooth what is coarser


def frequency(units: np.ndarray) -> np.ndarray:
    """Each unit's spatial frequency: the mean of |k|, weighted by the power of its spectrum.

    Args:
      units: float [N, H, W].

    Returns:
      float64 [N], in cycles a patch: 0 of a constant unit, at most sqrt(1/2).
    """
    rows, columns = np.fft.fftfreq(units.shape[1]), np.fft.fftfreq(units.shape[2])
    power = np.abs(np.fft.fft2(units.astype(np.float64))) ** 2
    total = power.sum(axis=(1, 2))
    weighted = (power * np.hypot(rows[:, None], columns)).sum(axis=(1, 2))
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)


def paired(units: np.ndarray) -> np.ndarray:
    """The order in which to show units: low frequency first, each before its opposite phase.

    Of those that are left, the one of lowest frequency is followed by the one that points most
    nearly the other way (the smallest cosine). What has the same frequency, or cosine, keeps its
    order.

    Args:
      units: float [N, H, W].

    Returns:
      int [N], a permutation of 0 ... N - 1; 2i and 2i + 1 are a pair.
    """
    flat = units.reshape(len(units), -1).astype(np.float64)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    # Equal ones are to be equal after rounding too.
    left = np.argsort(frequency(units).round(9), kind="stable")
    cosines = (flat @ flat.T).round(9)
    order = []
    while len(left):
        first, left = left[0], left[1:]
        order.append(first)
        if len(left):
            opposite = int(np.argmin(cosines[first, left]))
            order.append(left[opposite])
            left = np.delete(left, opposite)
    return np.asarray(order, int)


def as_images(kernel: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The weights of each hidden unit on the grid of patches: [S, D_S] -> [D_S, H, W]."""
    return kernel.T.reshape(-1, *grid)


def scaled(units: np.ndarray) -> np.ndarray:
    """Each unit on its own to [0, 1], weight 0 at 0.5."""
    largest = np.abs(units).max(axis=tuple(range(1, units.ndim)), keepdims=True)
    return 0.5 + 0.5 * np.divide(units, largest, out=np.zeros_like(units), where=largest > 0)


def tiled(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Images [N, H, W, ...] row by row on one white sheet, `gap` pixels apart."""
    count, height, width, *channels = images.shape
    rows = math.ceil(count / columns)
    down, right = height + gap, width + gap
    sheet = np.ones((rows * down - gap, columns * right - gap, *channels), images.dtype)
    for i, image in enumerate(images):
        top, left = i // columns * down, i % columns * right
        sheet[top : top + height, left : left + width] = image
    return sheet


@styled
def hidden_units(kernels: Sequence[np.ndarray], grid: tuple[int, int], title: str) -> Figure:
    """Figures 5 and 6: the units of each token-mixing MLP, one MLP beside the other.

    Args:
      kernels: float [S, D_S] of the first layer of each, in the order of the blocks.
      grid: rows and columns of patches, S of them.
    """
    sheets = []
    for kernel in kernels:
        units = as_images(kernel, grid)
        shown = scaled(units[paired(units)])
        pairs = [tiled(shown[i : i + 2], 2) for i in range(0, len(shown), 2)]
        # A sheet is about three wide and four high.
        columns = max(1, round(math.sqrt(0.75 * len(pairs) * grid[0] / (2 * grid[1]))))
        sheets.append(tiled(np.stack(pairs), columns, gap=2))
    return _sheets(sheets, [f"block {i + 1}" for i in range(len(sheets))], title)


@styled
def stem_units(kernel: np.ndarray, title: str) -> Figure:
    """Figure 7: the units of the stem as images, float [P, P, 3, C]."""
    units = scaled(np.moveaxis(kernel, -1, 0))
    columns = max(1, round(math.sqrt(1.5 * len(units))))
    return _sheets([tiled(units, columns)], [""], title)


def _sheets(sheets: Sequence[np.ndarray], names: Sequence[str], title: str) -> Figure:
    """Pictures of values in [0, 1] side by side, all pixels of the same size."""
    gap = max(4, 0.03 * sum(sheet.shape[1] for sheet in sheets))  # pixels
    across = sum(sheet.shape[1] for sheet in sheets) + gap * (len(sheets) - 1)
    finer = math.ceil(_DOTS / across)
    inch = (_WIDTH - 2 * _MARGIN) / across  # of a pixel
    top = _MARGIN + inch * max(sheet.shape[0] for sheet in sheets)
    high = top + (0.45 if any(names) else 0.25)
    figure = Figure(figsize=(_WIDTH, high))
    figure.text(0.5, 1 - 0.04 / high, title, ha="center", va="top")
    left = _MARGIN
    for sheet, name in zip(sheets, names, strict=True):
        height, width = inch * sheet.shape[0], inch * sheet.shape[1]
        place = (left / _WIDTH, (top - height) / high, width / _WIDTH, height / high)
        axes = figure.add_axes(place)
        axes.imshow(
            sheet.repeat(finer, axis=0).repeat(finer, axis=1),
            cmap="gray",
            vmin=0,
            vmax=1,
            interpolation="none",
            aspect="auto",
        )
        axes.set_axis_off()
        axes.set_title(name, pad=3)
        left += width + gap * inch
    return figure

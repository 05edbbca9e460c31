"""Draws figures 5 to 7: the weights of token-mixing hidden units and of the stem as images."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mixer.paper.style import styled

_WIDTH = 7.0  # inches of a whole figure
_MARGIN = 0.06  # inches left, right and below
_DOTS = 2100  # at least, across the figure: SVG viewers smooth coarser images


def frequency(units: np.ndarray) -> np.ndarray:
    """The spatial frequency of each unit: the mean of |k| weighted by its power spectrum.

    Args:
      units: float [N, H, W].

    Returns:
      float64 [N], in cycles per patch: 0 for a constant unit, at most sqrt(1/2).
    """
    rows, columns = np.fft.fftfreq(units.shape[1]), np.fft.fftfreq(units.shape[2])
    power = np.abs(np.fft.fft2(units.astype(np.float64))) ** 2
    total = power.sum(axis=(1, 2))
    weighted = (power * np.hypot(rows[:, None], columns)).sum(axis=(1, 2))
    return np.divide(weighted, total, out=np.zeros_like(total), where=total > 0)


def paired(units: np.ndarray) -> np.ndarray:
    """The order in which to show units: low frequencies first, in pairs of opposite phase.

    The unit of lowest frequency among those left comes next, followed by the one most opposite to
    it (with the smallest cosine). Ties keep their order.

    Args:
      units: float [N, H, W].

    Returns:
      int [N], a permutation of 0 ... N - 1; entries 2i and 2i + 1 are a pair.
    """
    flat = units.reshape(len(units), -1).astype(np.float64)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    # Rounded, so that units which are equal up to rounding errors count as ties.
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
    """Weights of each hidden unit as an image over the grid of patches: [S, D_S] -> [D_S, H, W]."""
    return kernel.T.reshape(-1, *grid)


def scaled(units: np.ndarray) -> np.ndarray:
    """Scales each unit separately to [0, 1], with weight 0 at 0.5."""
    largest = np.abs(units).max(axis=tuple(range(1, units.ndim)), keepdims=True)
    return 0.5 + 0.5 * np.divide(units, largest, out=np.zeros_like(units), where=largest > 0)


def tiled(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Tiles images [N, H, W, ...] row by row on a white sheet, `gap` pixels apart."""
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
    """Figures 5 and 6: the hidden units of the token-mixing MLPs, side by side.

    Args:
      kernels: float [S, D_S], kernel of the first layer of each MLP, in the order of the blocks.
      grid: numbers of rows and columns of patches, whose product is S.
    """
    sheets = []
    for kernel in kernels:
        units = as_images(kernel, grid)
        shown = scaled(units[paired(units)])
        pairs = [tiled(shown[i : i + 2], 2) for i in range(0, len(shown), 2)]
        # A sheet has a ratio of width to height of about 3 : 4.
        columns = max(1, round(math.sqrt(0.75 * len(pairs) * grid[0] / (2 * grid[1]))))
        sheets.append(tiled(np.stack(pairs), columns, gap=2))
    return _sheets(sheets, [f"block {i + 1}" for i in range(len(sheets))], title)


@styled
def stem_units(kernel: np.ndarray, title: str) -> Figure:
    """Figure 7: the units of the stem kernel, float [P, P, 3, C], as images.

    Units of other channels than RGB are shown in grey, their channels side by side.
    """
    units, gap = scaled(np.moveaxis(kernel, -1, 0)), 1
    if (channels := units.shape[3]) != 3:
        units = np.stack([tiled(np.moveaxis(unit, 2, 0), channels) for unit in units])
        gap = 2
    columns = max(1, round(math.sqrt(1.5 * len(units) * units.shape[1] / units.shape[2])))
    return _sheets([tiled(units, columns, gap)], [""], title)


def _sheets(sheets: Sequence[np.ndarray], names: Sequence[str], title: str) -> Figure:
    """Draws images with values in [0, 1] side by side, with pixels of the same size."""
    gap = max(4, 0.03 * sum(sheet.shape[1] for sheet in sheets))  # pixels
    across = sum(sheet.shape[1] for sheet in sheets) + gap * (len(sheets) - 1)
    finer = math.ceil(_DOTS / across)
    inch = (_WIDTH - 2 * _MARGIN) / across  # inches per pixel
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

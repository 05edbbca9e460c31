"""The style of figures (figures.mplstyle), and how they are saved."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import matplotlib
from matplotlib.figure import Figure

_FILE = Path(__file__).with_name("figures.mplstyle")


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Wraps `draw` so that it uses our style, whatever the user's matplotlibrc says."""

    @functools.wraps(draw)
    def in_style(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(fname=_FILE):
            figure = draw(*args, **kwargs)
            lay_out(figure)
        return figure

    return in_style


def lay_out(figure: Figure) -> None:
    """Fixes the layout of a figure; otherwise each drawing would move its parts a little."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save(figure: Figure, file: BinaryIO, ending: str) -> None:
    """Writes a figure as "png" or "svg", without a date: the same figure gives the same bytes."""
    undated = {"svg": {"Date": None}, "png": {}}[ending]
    with matplotlib.rc_context(fname=_FILE):
        figure.savefig(file, format=ending, metadata=undated)

"""How figures look (figures.mplstyle), and how they become files."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import matplotlib
from matplotlib.figure import Figure

_FILE = Path(__file__).with_name("figures.mplstyle")


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Has `draw` draw in our style, whatever the user's own matplotlibrc says."""

    @functools.wraps(draw)
    def in_style(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(fname=_FILE):
            figure = draw(*args, **kwargs)
            lay_out(figure)
        return figure

    return in_style


def lay_out(figure: Figure) -> None:
    """Places all parts for good: each drawing would move them a little."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def save(figure: Figure, file: BinaryIO, ending: str) -> None:
    """Writes a figure as "png" or "svg"; the same figure gives the same bytes at any time."""
    undated = {"svg": {"Date": None}, "png": {}}[ending]
    with matplotlib.rc_context(fname=_FILE):
        figure.savefig(file, format=ending, metadata=undated)

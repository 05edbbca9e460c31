"""The paper's published numbers: tables 1 to 4, and the text on figures 2, 4 and appendix A."""

import functools
import json
from pathlib import Path
from typing import Any


@functools.cache
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_suffix(".json").read_text())


def table(name: str) -> list[dict[str, Any]]:
    """The rows of "table1" to "table4", {column: value}; None where the paper prints a dash.

    Accuracies are in percent, throughput in images/s per TPUv3 core, and the cost of pretraining in
    thousands of TPUv3 core-days.
    """
    return _content()["tables"][name]


def figure(name: str) -> dict[str, Any]:
    """What the text says about "figure2_right" or "figure4"; no curve's numbers are printed."""
    return _content()["figures"][name]


def ablation(family: str) -> str | None:
    """How appendix A compares a variant with the Mixer, in its words; it prints no numbers."""
    return _content()["appendix_a"].get(family)


def title(column: str) -> str:
    """The heading of a column, with its unit."""
    known = _content()["columns"][column]
    return f"{known['title']}, {known['unit']}" if known["unit"] else known["title"]

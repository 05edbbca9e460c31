"""The paper's tables 1 to 4 as printed; what its text says of figures 2 and 4 and appendix A."""

import functools
import json
from pathlib import Path
from typing import Any


@functools.cache
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_suffix(".json").read_text())


def table(name: str) -> list[dict[str, Any]]:
    """The rows of "table1" ... "table4", by column; None where the paper has a dash.

    Accuracies are in percent, throughput is in images/s/core of a TPUv3, the cost of pretraining in
    thousands of TPUv3 core-days.
    """
    return _content()["tables"][name]


def figure(name: str) -> dict[str, Any]:
    """What the text says of "figure2_right" or "figure4"; the curves' numbers are not printed."""
    return _content()["figures"][name]


def ablation(family: str) -> str | None:
    """Appendix A's words on a variant of the Mixer, against the Mixer; it prints no numbers."""
    return _content()["appendix_a"].get(family)


def title(column: str) -> str:
    """A column's heading with its unit."""
    known = _content()["columns"][column]
    return f"{known['title']}, {known['unit']}" if known["unit"] else known["title"]

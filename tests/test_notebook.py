"""The notebook runs from its first cell to its last, and is stored with the whole run's outputs."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FILE = Path(__file__).parents[1] / "notebooks" / "mixer.ipynb"


def printed(notebook) -> str:
    return "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream"
    )


def right(text: str) -> list[int]:
    """How many of ten CIFAR-10 images, and of ten digits after fine-tuning, are recognised."""
    return [int(count) for count in re.findall(r"(\d+) of 10 are right", text)]


def test_the_notebook_is_stored_with_small_outputs():
    text, notebook = FILE.read_text(), nbformat.read(FILE, as_version=4)
    nbformat.validate(notebook)
    assert len(text) < 500_000 and "Traceback" not in text
    assert min(right(printed(notebook))) >= 6
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", ()) if "data" in o]
    assert sum("image/png" in output.data for output in pictures) == 2


@pytest.mark.long(minutes=1)
def test_the_notebook_runs_with_a_shorter_fine_tuning():
    notebook = nbformat.read(FILE, as_version=4)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        cell.source = cell.source.replace("80 steps", "8 steps").replace("10 steps", "2 steps")
    assert any("--config.total=8 steps" in cell.source for cell in notebook.cells)
    alone = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "PYTHONWARNINGS")}
    resources = {"metadata": {"path": str(FILE.parent)}}
    NotebookClient(notebook, timeout=600, resources=resources).execute(env=alone)
    predicted, _ = right(printed(notebook))  # before the fine-tuning, and after it
    assert predicted >= 6

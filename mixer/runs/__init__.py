"""One file per `config.run`, imported on demand."""

import ast
import importlib
from pathlib import Path

from mixer import errors

_RUNS = (
    "train",
    "sweep",
    "vtab",
    "evaluate",
    "predict",
    "fewshot",
    "convert",
    "contact_sheet",
    "input_benchmark",
    "throughput",
    "reproduce",
    "tables",
    "figures",
    "replay",
    "prepare",
    "plan",
    "verify_zoo",
    "doctor",
    "show",
)


def load(name: str):
    """Imports the module of a run, which is started by its `run(config, workdir, protocol)`.

    Raises:
      BadInput: unknown run.
    """
    if name not in _RUNS:
        raise errors.unknown("config.run", name, _RUNS)
    return importlib.import_module(f"mixer.runs.{name}")


def described() -> dict[str, str]:
    """{run: what it does}, from the first line of its docstring, without importing it."""
    found = {}
    for name in _RUNS:
        file = Path(__file__).with_name(f"{name}.py")
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        found[name] = text.partition("\n")[0].removeprefix(f'`config.run="{name}"`: ')
    return found

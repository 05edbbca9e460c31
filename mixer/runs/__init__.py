"""One file for each `config.run`, imported when it is asked for."""

import importlib

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
)


def load(name: str):
    """The module of a run; its `run(config, workdir, protocol)` does the work.

    Raises:
      BadInput: unknown run.
    """
    if name not in _RUNS:
        raise errors.unknown("config.run", name, _RUNS)
    return importlib.import_module(f"mixer.runs.{name}")

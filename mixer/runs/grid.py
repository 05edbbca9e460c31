"""Parses `config.sweep.grid`: the keys that a sweep varies, and all combinations of values."""

import ast
import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import meanings
from mixer import errors
from mixer.runs import keys

RATE = "schedule.base"
# {key or group that a grid cannot vary: the reason}
_REFUSED = {
    "run": "each trial of a sweep is a config.run=train",
    "seed": "the seeds are those of config.sweep.seeds",
    "imports": "modules are imported once, before all trainings",
    "best": "a sweep uses the last step of each training",
    "input.split": "a sweep trains on config.sweep.train, then on config.input.split",
    "evaluators.dev.split": "the split is config.sweep.dev",
    "model.name": "the other fields of a model depend on its name: sweep each model by itself",
    "sweep": "it configures the sweep itself",
    "vtab": "it configures the sweeps themselves",
    "runtime": "it does not affect the results",
}


@dataclasses.dataclass(frozen=True)
class Combination:
    """One value of each varied key; `label` goes into the name of the trial's folder."""

    label: str
    values: dict[str, Any]


def combinations(text: str, trained: ConfigDict) -> list[Combination]:
    """All combinations of the values in a grid; the first key varies slowest, numbers ascend.

    Args:
      text: a Python dict {key: values}, such as "{'schedule.base': (0.003, 0.01)}".
      trained: the config of the training, whose keys these are.

    Raises:
      BadInput: not a grid, a key that cannot be varied, or a value given twice or of a wrong type.
    """
    grid = {key: _values(key, given, trained) for key, given in read(text).items()}
    found = []
    for values in itertools.product(*grid.values()):
        named = dict(zip(grid, values, strict=True))
        labels = (_label(key, value, grid[key]) for key, value in named.items())
        found.append(Combination("_".join(labels), named))
    return found


def read(text: str) -> dict[str, Sequence[Any]]:
    """Parses a grid into {key: values}.

    Raises:
      BadInput: not a dict of tuples.
    """
    try:
        grid = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        grid = None
    listed = isinstance(grid, dict) and all(isinstance(v, list | tuple) for v in grid.values())
    if not grid or not listed:
        raise errors.BadInput(
            f"config.sweep.grid={text!r}: expected the values of each key, such as "
            f"{{'{RATE}': (0.003, 0.01), 'model.stochastic_depth': (0.0, 0.1)}}; a single value "
            f"takes a comma, (0.003,)"
        )
    return grid


def _values(key: str, given: Sequence[Any], trained: ConfigDict) -> list[Any]:
    """The values, converted to the type of the config's key; numbers ascend."""
    what = f"config.sweep.grid: {key}"
    known = keys.flat(keys.as_json(trained))
    if key not in known:
        near = " or ".join(map(meanings.shown, meanings.near(str(key), known)))
        raise errors.BadInput(f"{what} is not a key" + (f". Did you mean {near}?" if near else ""))
    for refused, reason in _REFUSED.items():
        if key == refused or key.startswith(f"{refused}."):
            raise errors.BadInput(f"{what} cannot be varied: {reason}")
    own = trained.copy_and_resolve_references()
    *groups, last = key.split(".")
    group = functools.reduce(lambda found, name: found[name], groups, own)
    found = []
    for value in given:
        try:
            group[last] = value
        except (TypeError, ValueError):
            raise errors.BadInput(
                f"{what}={value!r}: expected a value of the type of the recipe's, {known[key]!r}"
            ) from None
        found.append(group[last])
    if not found or any(value in found[:i] for i, value in enumerate(found)):
        raise errors.BadInput(f"{what}={tuple(given)}: expected one or more distinct values")
    if key == RATE:
        for rate in found:
            keys.within(0, math.inf, **{f"sweep.grid: {key}": rate})
    return sorted(found) if all(map(_is_number, found)) else found


def _label(key: str, value: Any, values: Sequence[Any]) -> str:
    """The key with the value if it is a number, else with its index in the grid."""
    name = "rate" if key == RATE else key
    return f"{name}{value if _is_number(value) else values.index(value)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)

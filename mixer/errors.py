"""Errors that are said in one line: the value, what was expected, the fix."""

import difflib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_SHOWN = 5  # of a long list


class BadInput(Exception):
    """The command asks for something that cannot be done; `main.py` prints it and exits with 2.

    It is not a ValueError on purpose: the flag parser wraps those into tracebacks of its own.
    """


class Missing(BadInput):
    """Data that are not there; what is marked optional goes without."""


class Failure(Exception):
    """A run that cannot go on, said in one line; `main.py` prints it and exits with 1."""


def command() -> str:
    """How this program is started: as it is installed, or in a clone; for messages."""
    return "mixer" if Path(sys.argv[0]).name == "mixer" else "python main.py"


def shown(names: Sequence[str]) -> str:
    """The first of a list of names; one that holds a comma stands in quotes."""
    first = (repr(name) if "," in name else name for name in names[:_SHOWN])
    return ", ".join(first) + (", ..." if len(names) > _SHOWN else "")


def nearest(value: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names that are most like the value, capital or small; none if all are far from it."""
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(value).lower(), lower, n=count, cutoff=0.4)
    return [lower[name] for name in close]


def unknown(
    kind: str,
    value: str,
    known: Iterable[str],
    fix: str = "",
    near: Sequence[str] | None = None,
) -> BadInput:
    """A `BadInput` that names the value, its nearest match and all that is known.

    Args:
      near: the nearest matches, where more is known than is to be listed.
    """
    known = sorted(known)
    close = nearest(value, known, 1) if near is None else near
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    fix = f" {fix}" if fix else ""
    return BadInput(f"unknown {kind} {value!r}.{hint} Known: {', '.join(known) or 'none'}.{fix}")

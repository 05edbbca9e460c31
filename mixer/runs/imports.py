"""Imports the user's own modules (`config.imports`)."""

import importlib

from mixer import errors


def import_modules(names: str) -> None:
    """Imports the user's own modules, which register models, sources, transforms, evaluators.

    Raises:
      BadInput: one cannot be found.
    """
    for name in _split(names):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise errors.BadInput(
                f"config.imports: {error}. Install that module, or put its folder on PYTHONPATH"
            ) from None


def check_trusted(needed: str, given: str, path: str) -> None:
    """Refuses a workdir that needs modules which the user has not named: importing runs their code.

    Args:
      needed: `config.imports` of the run at `path`.
      given: `config.imports` of this run, already imported.

    Raises:
      BadInput: a module is not named; the message has the `config.imports` to give.
    """
    missing = [name for name in _split(needed) if name not in _split(given)]
    if missing:
        both = ",".join([*_split(given), *missing])
        raise errors.BadInput(
            f"the model of the run at {path} needs the modules {', '.join(missing)}. Importing "
            f"them runs their code: give --config.imports={both} if you trust them"
        )


def _split(names: str) -> list[str]:
    return [part.strip() for part in names.split(",") if part.strip()]

"""The user's own modules: models, sources, transforms and evaluators from outside."""

import importlib

from mixer import errors


def import_modules(names: str) -> None:
    """Imports the user's own modules, which register models, sources, transforms, evaluators.

    Raises:
      BadInput: one cannot be found.
    """
    for name in filter(None, (part.strip() for part in names.split(","))):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise errors.BadInput(
                f"config.imports: {error}. It must be importable: set PYTHONPATH or install it"
            ) from None

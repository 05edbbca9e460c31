"""Finds and loads recipes: the shipped ones by name, others by path.

The shipped ones are the package `configs`, next to `mixer` in a clone and in an installation.
"""

import ast
import importlib.machinery
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from mixer import errors

FOLDER = Path(__file__).parents[1] / "configs"


def make_importable() -> None:
    """Makes `import configs` find the shipped package, even if the user has a folder `configs`."""
    file = FOLDER / "__init__.py"
    if getattr(sys.modules.get("configs"), "__file__", None) == str(file):
        return
    spec = importlib.util.spec_from_file_location(
        "configs", file, submodule_search_locations=[str(FOLDER)]
    )
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    sys.modules["configs"] = package


def load(recipe: str, run: str = "", *, whole: bool = False):
    """The config of a recipe, a locked ConfigDict.

    Args:
      recipe: NAME or PATH, optionally with :WORDS.
      run: the run whose keys the config gets; empty: the recipe's default run.
      whole: add the keys of all runs.

    Raises:
      BadInput: there is no such recipe, or it has no config for the words.
    """
    make_importable()
    from configs import groups

    name, colon, words = recipe.partition(":")
    module, given = _module(find(name)), [words] if colon else []
    if not hasattr(module, "get_config"):
        raise errors.BadInput(f"config file {name!r} is not a recipe: it has no get_config")
    get_config = module.get_config
    takes = inspect.signature(get_config).parameters
    if "run" in takes:
        run = run or takes["run"].default
        config = get_config(*given, run=groups.ALL if whole else run)
    else:  # a user's recipe, whose config gets the defaults of the run's keys
        config = get_config(*given)
    with config.unlocked():
        config.run = run or config.run
    groups.add(config, groups.ALL if whole else config.run)
    return config.lock()


def _module(file: Path) -> ModuleType:
    if file.resolve().parent == FOLDER.resolve():
        return importlib.import_module(f"configs.{file.stem}")
    loader = importlib.machinery.SourceFileLoader(file.stem, str(file))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(file.stem, loader))
    loader.exec_module(module)
    return module


def find(recipe: str) -> Path:
    """The file of a recipe: a plain NAME is a shipped recipe, anything else is a path.

    Raises:
      BadInput: there is no such recipe; the message names the nearest.
    """
    names = dict.fromkeys(described())
    if not re.fullmatch(r"\w+", recipe):
        return _file_at(recipe, names)
    if recipe in names:
        return FOLDER / f"{recipe}.py"
    fix = "Give your own recipe by its path."
    if Path(f"{recipe}.py").is_file():
        fix = f"The file here is --config={recipe}.py."
    raise errors.unknown("recipe", recipe, names, fix)


def _file_at(recipe: str, names) -> Path:
    file = Path(recipe)
    if file.is_file():
        return file
    if file.stem in names:
        raise errors.BadInput(
            f"config file {recipe!r} does not exist: the recipe that comes with the package is "
            f"--config={file.stem}"
        )
    near = [str(path) for path in sorted(file.parent.glob("*.py")) if _is_recipe(path)]
    if near:
        raise errors.unknown("config file", recipe, near)
    raise errors.unknown("config file", recipe, names, "Give these by their names alone.")


def described() -> dict[str, str]:
    """{name: first line of its docstring} of the shipped recipes."""
    files = filter(_is_recipe, sorted(FOLDER.glob("*.py")))
    return {file.stem: text(file).partition("\n")[0] for file in files}


def text(file: Path) -> str:
    """The docstring of a Python file, without running it."""
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _is_recipe(file: Path) -> bool:
    return "def get_config" in file.read_text(encoding="utf-8", errors="replace")

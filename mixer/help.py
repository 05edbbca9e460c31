"""The texts of `--help` and `--version`."""

import platform

import mixer
from mixer import errors, recipes, runs
from mixer.hosts import software


def overview() -> str:
    """The usage, the recipes and the runs. Imports nothing slow."""
    command = errors.command()
    return f"""\
{command} --config=RECIPE[:WORDS] --workdir=DIR [--config.KEY=VALUE ...]
  RECIPE is a name below, or the path of your own file. WORDS, with commas and in any order, name a
  model, a dataset, a resolution or the precision (float32, bfloat16); smoke runs the recipe on
  digits in a minute.
  DIR is a folder for the output.

Recipes:
{_table(recipes.described())}

Runs: set --config.run=NAME with any recipe. The default of most recipes is train.
{_table(runs.described())}

Keys: --config=RECIPE --help lists all keys of a recipe with values and meanings, as documented in
{recipes.FOLDER / "common.py"} and groups.py.
--config.run=show also prints what follows from them, such as the number of steps.

Examples:
  {command} --config=quickstart --workdir=runs/quickstart
  {command} --config=folder:folder:PATH,Mixer-S/16,224 --config.batch_size=128 --workdir=runs/mine

For several processes, give each --coordinator=HOST:PORT --num_processes=N --process_id=I.
--version prints the versions of this program and of its packages."""


def versions() -> str:
    """What a bug report needs: a line for each package that determines a run's numbers."""
    found = {"mixer": f"{mixer.__version__}, code {software.code()}"}
    found |= {"python": platform.python_version()} | software.versions()
    return "\n".join(f"{name} {version}" for name, version in found.items())


def of_recipe(recipe: str, config, protocol: str) -> str:
    """The description of a recipe, and its keys with the values that this command gives them.

    Args:
      recipe: the recipe as given, with its words.
      config: the resulting config.
      protocol: the name of the recipe, with its words.
    """
    from mixer.runs import show

    text = recipes.text(recipes.find(recipe.partition(":")[0]))
    return "\n".join([f"{protocol}\n", text, "", *show.keys_of(config)])


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())

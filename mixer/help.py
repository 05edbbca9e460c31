"""What `--help` prints."""

from mixer import errors, recipes, runs


def overview() -> str:
    """The usage, the runs and the recipes; nothing slow is imported."""
    command = errors.command()
    return f"""\
{command} --config=RECIPE[:WORDS] --workdir=DIR [--config.KEY=VALUE ...]
  RECIPE is a name below or the path of a file of yours; WORDS, in any order and with commas between
  them: a model, a dataset, a resolution, smoke (the recipe in a minute, on digits); DIR: the output

Recipes:
{_table(recipes.described())}

Runs, each by --config.run=NAME with any recipe; a recipe has its own, mostly train:
{_table(runs.described())}

Keys: --config=RECIPE --help lists those of a recipe, with values and meanings, which stand in
{recipes.FOLDER / "common.py"} and groups.py.
--config.run=show adds what follows from them, such as the number of steps.

Examples:
  {command} --config=quickstart --workdir=runs/quickstart
  {command} --config=folder:folder:PATH,Mixer-S/16,224 --config.batch_size=128 --workdir=runs/mine

Of several processes each gets --coordinator=HOST:PORT --num_processes=N --process_id=I."""


def of_recipe(recipe: str, config, protocol: str) -> str:
    """The recipe's text and its keys, with the values that the command gives them.

    Args:
      recipe: as it is given, with its words.
      config: what the command makes of it.
      protocol: the recipe's name, with its words.
    """
    from mixer.runs import show

    text = recipes.text(recipes.find(recipe.partition(":")[0]))
    return "\n".join([f"{protocol}\n", text, "", *show.keys_of(config)])


def _table(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows.items())

"""Finds complete runs in `config.tables.workdirs` and matches them to the paper's runs."""

import dataclasses
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from mixer import errors, recipes, storage
from mixer.hosts import peers
from mixer.models import registry
from mixer.paper import matching, rows
from mixer.paper.matching import Result
from mixer.paper.rows import Run
from mixer.runs import keys, workdir

# Runs whose results.json summarises other runs.
_MADE_OF_OTHERS = ("reproduce", "tables", "figures")


def results(asked: str) -> Iterator[Result]:
    """The results.json of each path or glob, or if it has none, all below it; each once.

    A line names each run without one, which is not complete.

    Args:
      asked: `config.tables.workdirs`.

    Raises:
      BadInput: `asked` is empty, or a path has no results.
    """
    if not asked:
        raise errors.BadInput("config.tables.workdirs is empty: give paths and globs, with commas")
    seen = set()
    for given in filter(None, map(str.strip, asked.split(","))):
        paths = [given]
        if not storage.is_remote(given):
            paths = sorted(glob.glob(os.path.expanduser(given), recursive=True))
        found = [result for path in paths for result in _below(workdir.open_workdir(path))]
        if not found:
            raise errors.BadInput(
                f"config.tables.workdirs: neither {given!r} nor a folder below it has a "
                f"{workdir.RESULTS}: expected the workdir of a complete run, a folder of workdirs, "
                f"or a glob"
            )
        yield from (result for result in found if result.path not in seen)
        seen |= {result.path for result in found}


def _below(path: epath.Path) -> Iterator[Result]:
    """The results of a run, but not of the trainings that it consists of."""
    found = workdir.read_json(path / workdir.RESULTS)
    recorded = workdir.read_json(path / workdir.CONFIG)
    if recorded and recorded.get("run") not in _MADE_OF_OTHERS:
        if found:
            yield Result(str(path), found, keys.flat(recorded))
        else:
            print(f"{path}: not complete, so not counted", flush=True)
        return
    if path.is_dir():
        for child in sorted(path.iterdir()):
            if child.is_dir() and child.name not in ("checkpoints", "profile"):
                yield from _below(child)


def mark_altered(result: Result) -> Result:
    """Adds ", altered" to the name of a training's model if it differs from the registered one."""
    name = result.results["model"]
    if result.results["run"] != "train" or name not in registry.list_models():
        return result
    sizes = {k: v for k, v in registry.model_fields(name).items() if isinstance(v, int | tuple)}
    own = {k: result.config.get(f"model.{k}", v) for k, v in sizes.items()}
    if json.dumps(own) == json.dumps(sizes):
        return result
    name = f"{name}, altered: {result.results['params'] / 1e6:.2f} M parameters"
    return dataclasses.replace(result, results=result.results | {"model": name})


def protocols() -> dict[str, dict[str, Any]]:
    """{folder of one of the paper's runs: the config that it should have, "a.b": value}."""
    runs = {run.folder: run for row in rows.rows() for run in row.runs}
    return {folder: keys.flat(keys.as_json(config_of(run))) for folder, run in runs.items()}


def config_of(run: Run) -> ConfigDict:
    """The recipe with the run's words and keys."""
    recipe = recipes.load(run.protocol, run.keys.get("run", ""))
    recipe.update_from_flattened_dict(run.keys)
    return recipe


def write(path: epath.Path, texts: Mapping[str, str]) -> None:
    """Writes text files {name: content} into a workdir, on process 0 only."""
    for name, text in texts.items() if peers.index() == 0 else ():
        with storage.write_whole(path / name) as file:
            file.write(text.encode())


def assigned(
    found: Sequence[Result], protocols: Mapping[str, Mapping]
) -> tuple[dict[str, list[Result]], list[str]]:
    """Matches results to the paper's runs.

    Returns:
      {folder of a run: its results}, and a line for each result that matches none, with the reason.

    Raises:
      BadInput: two results would count one experiment twice.
    """
    taken, unused = {}, []
    all_rows = rows.rows()
    for result in found:
        runs = [
            run
            for run in {r.folder: r for row in all_rows for r in row.runs}.values()
            if any(
                matching.matches(result, row, run, protocols[run.folder])
                for row in all_rows
                if run in row.runs
            )
        ]
        fitting = [r for r in runs if not matching.differences(result, protocols[r.folder])]
        for run in fitting:
            taken.setdefault(run.folder, []).append(result)
        if not fitting and runs:
            other = matching.differences(result, protocols[runs[0].folder])
            unused.append(
                f"{result.path}: differs from the protocol of {runs[0].folder}: {other[0]}"
            )
        elif not fitting:
            what = result.results
            unused.append(
                f"{result.path}: in no row ({what['run']}, {what['model']}, {what['dataset']}, "
                f"{what['resolution']})"
            )
    for folder, own in taken.items():
        for one, other in matching.same_seed(own):
            raise errors.BadInput(
                f"{one.path} and {other.path} are both {folder} with seed "
                f"{one.results['seed']}: give one of them"
            )
    return taken, unused

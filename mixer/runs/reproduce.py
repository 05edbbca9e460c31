"""`config.run="reproduce"`: all runs behind rows of the paper's tables, then the tables."""

import math
from collections.abc import Mapping, Sequence

from etils import epath
from ml_collections import ConfigDict

from mixer import errors, runs
from mixer.hosts import exchange
from mixer.paper import rows, tables
from mixer.paper.rows import Row, Run
from mixer.runs import collecting, keys, quoted, workdir
from mixer.runs.results import Results

_SMOKE = f"{tables.CAPTION} Ours is a smoke test: digits instead of all datasets, ten steps."


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Does the remaining runs in order, until all are complete or a signal stops it.

    Raises:
      BadInput: before anything is written.
    """
    selected = _selected(config)
    chain = _chain(config, selected)
    asked = config.reproduce
    keys.at_least(1, **{"reproduce.machines": asked.machines})
    keys.within(0, asked.machines, **{"reproduce.machine": asked.machine})
    if asked.list:
        listing = _listing(config, selected, chain, output)
        keys.used(config)
        print(listing)
        return
    path = workdir.unfinished(output, config)
    if path is None:
        return
    configs = {run.folder: _config_of(run, config, path) for run in chain}
    workdir.begin(path, config)
    if not _carry_out(chain, configs, path, asked.machine, asked.machines):
        return
    found = _found(chain, path)
    filled = _filled(selected, found)
    texts = tables.texts(filled, _SMOKE if asked.smoke else tables.CAPTION)
    collecting.write(path, texts)
    print(texts["tables.md"], flush=True)
    missing = [run.folder for run in chain if run.folder not in found]
    if missing:
        print(f"not done: {', '.join(missing)}. Then give the same command again", flush=True)
        return
    done = list(found.values())
    workdir.write_results(
        path,
        Results(
            run="reproduce",
            protocol=protocol,
            seed=config.seed,
            seconds=math.fsum(each["seconds"] or 0 for each in done),
            device_days=math.fsum(each["device_days"] or 0 for each in done),
            metrics=tables.metrics(filled),
        ),
    )
    print(f"done: {path / workdir.RESULTS}", flush=True)


def _selected(config: ConfigDict) -> list[Row]:
    """The rows that `config.reproduce.rows` names, "part: label"."""
    known = {f"{row.part}: {row.label}": row for row in rows.rows(smoke=config.reproduce.smoke)}
    if not config.reproduce.rows:
        raise errors.BadInput("config.reproduce.rows is empty: use configs/paper.py:table3,MODEL")
    for name in config.reproduce.rows:
        if name not in known:
            raise errors.unknown("row in config.reproduce.rows", name, known)
    return [known[name] for name in config.reproduce.rows]


def _chain(config: ConfigDict, selected: Sequence[Row]) -> list[Run]:
    """The rows' runs, each once, without the pretraining that `config.init_from` replaces.

    Raises:
      BadInput: it would replace several different pretrainings.
    """
    chain = {run.folder: run for row in selected for run in row.runs}
    if not config.init_from:
        return list(chain.values())
    replaced = {run.after for run in chain.values() if run.after}
    if len(replaced) > 1:
        raise errors.BadInput(
            f"config.init_from={config.init_from} would replace {len(replaced)} pretrainings "
            f"({', '.join(sorted(replaced))}): name one row, such as "
            f"configs/paper.py:table3,Mixer-B/16,imagenet21k"
        )
    return [run for folder, run in chain.items() if folder not in replaced]


def _config_of(run: Run, config: ConfigDict, path: epath.Path) -> ConfigDict:
    """The run's config: its recipe and keys, with our seed, imports and runtime keys."""
    own = collecting.config_of(run)
    if run.after:
        own.init_from = config.init_from or str(path / run.after)
    own.seed, own.imports = config.seed, config.imports
    own.runtime.update(config.runtime)
    if config.reproduce.smoke:
        own.runtime.log_every = own.runtime.checkpoint_every = "5 steps"
    return own


def _carry_out(
    chain: Sequence[Run], configs: Mapping, path: epath.Path, machine: int, machines: int
) -> bool:
    """Does this machine's share of the runs; False if one was stopped."""
    ours = {run.folder for run in chain}
    for number, run in enumerate(chain):
        place = path / run.folder
        if number % machines != machine or _is_complete(place):
            continue
        if run.after in ours and not _is_complete(path / run.after):
            print(f"{run.folder}: waits for {run.after}", flush=True)
            continue
        print(f"run {run.folder}: configs/{run.recipe}.py:{','.join(run.words)}", flush=True)
        try:
            _start(configs[run.folder], place, run)
        except errors.Missing as error:
            print(f"{run.folder} is left out: {error}", flush=True)
            continue
        if not _is_complete(place):
            return False
    return True


def _start(config: ConfigDict, place: epath.Path, run: Run) -> None:
    runs.load(config.run).run(keys.track(config), str(place), run.protocol)


def _is_complete(place: epath.Path) -> bool:
    return exchange.from_first(lambda: workdir.is_complete(place))


def _found(chain: Sequence[Run], path: epath.Path) -> dict[str, dict]:
    """{folder: results.json} of the complete runs."""
    results = {run.folder: path / run.folder / workdir.RESULTS for run in chain}
    read = exchange.from_first(lambda: {f: workdir.read_json(p) for f, p in results.items()})
    return {folder: content for folder, content in read.items() if content}


def _filled(selected: Sequence[Row], found: Mapping[str, dict]) -> dict[str, tables.Filled]:
    """{table or figure: its selected rows with their cells}."""
    parts = {}
    for row in selected:
        parts.setdefault(row.part, []).append((row, tables.fill(row, found)))
    return parts


def _listing(
    config: ConfigDict,
    selected: Sequence[Row],
    chain: Sequence[Run],
    output: str,
) -> str:
    """The commands, and a Markdown table of the cost of each run."""
    place = epath.Path(output)
    configs = {run.folder: _config_of(run, config, place) for run in chain}
    commands = [r.command(str(place / r.folder), configs[r.folder].init_from) for r in chain]
    paper = {
        run.folder: row.published["cost"]
        for row in selected
        for run in row.runs
        if "cost" in run.fills
    }
    works = {run.folder: quoted.trainings_of(run, configs[run.folder]) for run in chain}
    return "\n".join([*commands, "", *quoted.table(works, paper, config.reproduce)])

"""`config.run="reproduce"`: all runs behind rows of the paper's tables, then the tables."""

import functools
import math
from collections.abc import Mapping, Sequence

from etils import epath
from ml_collections import ConfigDict

import mixer
from mixer import errors, runs
from mixer.data.sources import vtab_tasks
from mixer.hosts import exchange
from mixer.models import registry
from mixer.paper import rows, tables
from mixer.paper.rows import Row, Run
from mixer.planning import flops, peaks
from mixer.runs import collecting, keys, sweep, workdir
from mixer.runs.results import Results
from mixer.training import durations

_PRETRAINING_SIZE = 224
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
    accelerators = {name: peaks.by_product_name(name) for name in config.reproduce.accelerators}
    share = config.reproduce.share
    keys.within(0, math.inf, **{"reproduce.share": share})
    place = epath.Path(output)
    configs = {run.folder: _config_of(run, config, place) for run in chain}
    lines = [r.command(str(place / r.folder), configs[r.folder].init_from) for r in chain]
    lines += ["", f"device_days of the training steps, at {share:.0%} of the devices' peak:", ""]
    heads = [f"{name}: device_days (days)" for name in accelerators]
    lines.append("| run | images | EFLOP | " + " | ".join(heads) + " | paper, TPUv3 core-days |")
    lines.append("| --- | ---: | ---: |" + " ---: |" * (len(heads) + 1))
    paper = {
        run.folder: row.published["cost"]
        for row in selected
        for run in row.runs
        if "cost" in run.fills
    }
    total = 0.0
    for run in chain:
        images, work = _work(run, configs[run.folder])
        total += work
        lines.append(_priced(run.folder, images, work, accelerators, share, paper.get(run.folder)))
    lines.append(_priced("all", None, total, accelerators, share, None))
    return "\n".join(lines)


def _priced(name, images, work: float, accelerators, share: float, paper) -> str:
    cells = [name, f"{images:,}" if images else "-", f"{work / 1e18:,.4g}" if work else "-"]
    for peak, count in accelerators.values():
        days = work / (peak.flops * share) / 86400
        cells.append(f"{days:,.3g} ({days / count:,.3g})" if work else "-")
    cells.append(f"{1000 * paper:,.0f}" if paper else "-")
    return "| " + " | ".join(cells) + " |"


def _work(run: Run, config: ConfigDict) -> tuple[int, float]:
    """Images and FLOPs of all training steps of the run, without evaluations."""
    if config.run not in ("train", "sweep", "vtab"):
        return 0, 0.0
    steps = durations.to_steps(
        config.total, config.batch_size, rows.IMAGES.get(config.dataset, 1), "total"
    )
    trainings = 1 if config.run == "train" else sum(map(len, sweep.checked(config)))
    images = steps * config.batch_size * trainings
    size = config.image_size[0]
    if config.run != "vtab":
        return images, images * _flops(config.model.name, size, bool(run.after))
    sizes = [size] * len(vtab_tasks.TASKS)
    if config.dataset.startswith("vtab:"):  # else it is a smoke test
        sizes = [
            config.vtab.resolution or vtab_tasks.task(name).resolution()
            for name in vtab_tasks.TASKS
        ]
    work = math.fsum(images * _flops(config.model.name, side, True) for side in sizes)
    return images * len(sizes), work


@functools.cache
def _flops(name: str, size: int, fine_tuned: bool) -> float:
    """FLOPs per training image; a Mixer fine-tuned above 224 is enlarged as in appendix C."""
    model = registry.create_model(name, num_classes=1000)
    if fine_tuned and size > _PRETRAINING_SIZE:
        model = mixer.at_resolution(model, size, _PRETRAINING_SIZE)
    if hasattr(model, "scan"):
        model = model.clone(scan=True)  # faster to trace
    return 2.0 * flops.training_macs(model, (size, size))

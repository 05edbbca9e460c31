"""`config.run="vtab"`: a sweep on each task of VTAB-1k, and the score."""

from ml_collections import ConfigDict

from mixer import errors
from mixer.data.sources import vtab_tasks
from mixer.hosts import exchange, stopping
from mixer.runs import start, sweep, workdir
from mixer.runs.results import Results, common_values, cost


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Sweeps each task in WORKDIR/<task>, until all are complete or a signal stops it.

    Raises:
      BadInput: before anything is written.
    """
    config = start.with_upstream_model(config, output)
    path = workdir.unfinished(output, config)
    if path is None:
        return
    configs = sweeps_of(config)
    done = {name: path / name / workdir.RESULTS for name in configs}
    missing = exchange.from_first(lambda: [n for n in configs if not workdir.read_json(done[n])])
    # All sweeps are built first, so that errors show before hours go into the first task.
    sweeps = {name: sweep.build_sweep(configs[name]) for name in missing}
    with stopping.stop_signal() as stop:
        workdir.begin(path, config)
        for name, its_sweep in sweeps.items():
            print(f"task {name}", flush=True)
            sweep.carry_out(configs[name], its_sweep, path / name, protocol, stop)
            if stop.poll():
                return
    found = exchange.from_first(lambda: {n: workdir.read_json(f) for n, f in done.items()})
    if None in found.values():
        return
    accuracies = {name: results["metrics"]["test/top1"] for name, results in found.items()}
    scores = vtab_tasks.means(accuracies)
    for name, accuracy in (accuracies | scores).items():
        print(f"{name:<22} {'-' if accuracy is None else f'{accuracy:.4f}'}")
    metrics = {f"vtab/{name}": accuracy for name, accuracy in (accuracies | scores).items()}
    parts = list(found.values())
    workdir.write_results(
        path,
        Results(
            run="vtab",
            protocol=protocol,
            metrics=metrics,
            **common_values(parts) | {"dataset": "vtab"},
            **cost(parts),
        ),
    )
    print(f"done: {path / workdir.RESULTS}", flush=True)


def sweeps_of(config: ConfigDict) -> dict[str, ConfigDict]:
    """{task: config of its sweep}.

    Raises:
      BadInput: an unknown task, or keys that cannot be set or varied here.
    """
    if not config.sweep.grid:
        raise errors.BadInput(
            "config.sweep.grid is empty: config.run=vtab chooses by it for each task: use "
            "configs/vtab.py"
        )
    points, _ = sweep.checked(config)
    if config.dataset.startswith("vtab:"):
        _check_tasks_own(config)
    for key in ("dataset", "image_size", "input.transform"):
        if key in points[0].values:
            raise errors.BadInput(
                f"config.sweep.grid: {key} cannot be varied: run=vtab sets it for each task"
            )
    found = {}
    for number, name in enumerate(tuple(config.vtab.tasks) or vtab_tasks.TASKS):
        task = vtab_tasks.task(name)
        size = config.vtab.resolution or task.resolution(with_96=config.vtab.with_96)
        of_task = config.copy_and_resolve_references()
        of_task.run = "sweep"
        if config.dataset.startswith("vtab:"):  # else a smoke test on digits
            of_task.dataset = f"vtab:{name}"
            of_task.image_size = (size, size)
            of_task.input.transform = task.train_transform(size)
        # Shifts the machines, so that all get trials even if a task has fewer trials than machines.
        shifted = config.sweep.machine + number * len(points)
        of_task.sweep.machine = shifted % config.sweep.machines
        found[name] = of_task
    return found


def _check_tasks_own(config: ConfigDict) -> None:
    """Refuses values other than the recipe's for keys that each task sets itself."""
    task = vtab_tasks.task(config.dataset.removeprefix("vtab:"))
    sizes = {config.vtab.resolution or task.resolution(), task.resolution()}
    for key, value, made in (
        ("image_size", tuple(config.image_size), [(size, size) for size in sizes]),
        ("input.transform", config.input.transform, [task.train_transform(s) for s in sizes]),
    ):
        if value not in made:
            raise errors.BadInput(
                f"config.{key}={value!r}: config.run=vtab sets it for each task. Set the size of "
                f"all by --config.vtab.resolution, or run one task alone: configs/vtab.py:TASK"
            )

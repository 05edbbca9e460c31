"""`config.run="vtab"`: a sweep for each task of VTAB-1k, and the score."""

from etils import epath
from ml_collections import ConfigDict

from mixer.data import vtab
from mixer.runs import agreement, build, distributed, sweep, workdir


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Sweeps each task in WORKDIR/<task>, until all are complete or there was a stop.

    Raises:
      BadInput: before anything is written.
    """
    configs = build.vtab(config)
    done = {name: path / name / workdir.RESULTS for name in configs}
    missing = agreement.from_first(lambda: [n for n in configs if not workdir.read_json(done[n])])
    # Of all tasks, before hours go into the first.
    sweeps = {name: build.sweep(configs[name]) for name in missing}
    with distributed.stop_signal() as stop:
        workdir.begin(path, config)
        for name, its_sweep in sweeps.items():
            print(f"task {name}", flush=True)
            sweep.carry_out(configs[name], its_sweep, path / name, protocol, stop)
            if stop.poll():
                return
    found = agreement.from_first(lambda: {n: workdir.read_json(f) for n, f in done.items()})
    if None in found.values():
        return
    accuracies = {name: results["metrics"]["test/top1"] for name, results in found.items()}
    scores = vtab.means(accuracies)
    for name, accuracy in (accuracies | scores).items():
        print(f"{name:<22} {'-' if accuracy is None else f'{accuracy:.4f}'}")
    metrics = {f"vtab/{name}": accuracy for name, accuracy in (accuracies | scores).items()}
    parts = list(found.values())
    workdir.write_results(
        path,
        sweep.summary(parts)
        | sweep.cost(parts)
        | {"run": "vtab", "protocol": protocol, "dataset": "vtab", "metrics": metrics},
    )
    print(f"done: {path / workdir.RESULTS}", flush=True)

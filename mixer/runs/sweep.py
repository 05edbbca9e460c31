"""`config.run="sweep"`: chooses the learning rate, or other keys, then trains with several seeds.

Without a grid nothing is chosen: the same training is done with each of the seeds.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.hosts import stopping
from mixer.runs import keys, start, sweep_table, workdir
from mixer.runs.evaluations import AVERAGED, keep_evaluators
from mixer.runs.grid import RATE, Combination, combinations
from mixer.runs.keys import at_least, within
from mixer.runs.results import Results, common_values, cost
from mixer.runs.training import build_training, directions
from mixer.runs.trials import Share, Trial, all_results, averaged, none_diverged, read, run_all
from mixer.signals import StopSignal

_CHOICE = "choice.json"
_USUAL = "dev/top1"  # the metric by which the combination is chosen, unless config.best is another


@dataclasses.dataclass(frozen=True)
class Sweep:
    """All trials of a sweep.

    Attributes:
      choosing: a trial for each combination; they measure `best`. Without a grid there is none.
      final: for each combination, a trial for each seed; they measure the same on `test`.
      best: the metric by which the combination is chosen, such as "dev/top1"; "" without a grid.
      higher_is_better: whether by its highest value, else by its lowest.
    """

    choosing: list[Trial]
    final: list[list[Trial]]
    best: str
    higher_is_better: bool
    share: Share

    @property
    def tested(self) -> str:
        """The metric on `test`."""
        return f"test{self.best.removeprefix('dev')}"


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Trains until the sweep is complete, was stopped, or waits for other machines.

    Raises:
      BadInput: before anything is written.
      Failure: the loss of every combination, or of the chosen one, became NaN or infinite.
    """
    config = start.with_upstream_model(config, output)
    path = workdir.unfinished(output, config)
    if path is None:
        return
    sweep = build_sweep(config)
    with stopping.stop_signal() as stop:
        carry_out(config, sweep, path, protocol, stop)


def build_sweep(config: ConfigDict) -> Sweep:
    """Builds a sweep.

    Raises:
      BadInput: the config asks for something that cannot be done.
    """
    points, seeds = checked(config)
    if not points:
        return _of_seeds(config, seeds)
    for name in ("dev", "test"):
        if name not in config.evaluators:
            raise errors.BadInput(
                f"config.run={config.run} needs config.evaluators.{name}: use configs/sweep.py"
            )
    alone = not config.sweep.retrain
    found = Sweep(
        choosing=[_trial(config, at, config.seed, held_out=True, others=alone) for at in points],
        final=[
            [_trial(config, at, seed, held_out=alone, others=True) for seed in seeds]
            for at in points
        ],
        best=config.best or _USUAL,
        higher_is_better=True,
        share=_share(config),
    )
    # Errors that would only show after hours of choosing show now.
    known = {}
    for name, trial in (("dev", found.choosing[0]), ("test", found.final[0][0])):
        known |= directions(trial.config, build_training(trial.config).evaluations)
        wanted = found.best if name == "dev" else found.tested
        if wanted not in known:
            own = [metric for metric in known if metric.startswith(name)]
            raise errors.BadInput(
                f"config.evaluators.{name} does not measure {wanted.partition('/')[2]}, by which "
                f"the sweep would choose (config.best), but {', '.join(own) or 'nothing'}"
            )
    _check_read(found.choosing)
    return dataclasses.replace(found, higher_is_better=known[found.best])


def _of_seeds(config: ConfigDict, seeds: Sequence[int]) -> Sweep:
    """The same training with each seed."""
    trials = []
    for seed in seeds:
        own = config.copy_and_resolve_references()
        own.run, own.seed = "train", seed
        trials.append(Trial(f"seed{seed}", {}, own))
    if not build_training(trials[0].config).evaluations:
        raise errors.BadInput(
            "config.evaluators measures nothing, so there is nothing to average over "
            "config.sweep.seeds"
        )
    return Sweep([], [trials], best="", higher_is_better=True, share=_share(config))


def _share(config: ConfigDict) -> Share:
    return Share(config.sweep.machine, config.sweep.machines)


def _check_read(trials: Sequence[Trial]) -> None:
    """Builds a training with each new value, and refuses keys that it does not read."""
    done = {RATE: [trial.values.get(RATE) for trial in trials]}  # checked by `checked`
    for trial in trials:
        new = [key for key, value in trial.values.items() if value not in done.setdefault(key, [])]
        if not new:
            continue
        own = keys.track(trial.config)
        build_training(own)
        for key in new:
            if key not in keys.read_so_far(own):
                raise errors.BadInput(
                    f"config.sweep.grid: {key} cannot be varied: a training with the other options "
                    f"given does not read it"
                )
            done[key].append(trial.values[key])


def checked(config: ConfigDict) -> tuple[list[Combination], Sequence[int]]:
    """The combinations to choose from, none without a grid, and the seeds."""
    wanted = config.sweep
    if config.best and not wanted.grid:
        raise errors.BadInput(
            f"config.best={config.best!r}: a sweep without config.sweep.grid chooses nothing"
        )
    if config.best and config.best.partition("/")[0] not in ("dev", f"dev{AVERAGED}"):
        raise errors.BadInput(
            f"config.best={config.best!r}: a sweep chooses by a metric of config.evaluators.dev, "
            f"such as dev/nll"
        )
    if config.patience:
        raise errors.BadInput(
            f"config.patience={config.patience}: a sweep uses each training's last step; leave it 0"
        )
    if config.probe.l2:
        raise errors.BadInput(
            f"config.probe.l2={config.probe.l2}: a probe is one training, which chooses among "
            f"these by itself: use --config.run=train"
        )
    seeds = tuple(wanted.seeds)
    given = [bool(wanted.grid), bool(wanted.train), bool(wanted.dev)]
    if any(given) and not all(given):
        raise errors.BadInput(
            f"config.run={config.run} needs config.sweep.grid, .train and .dev: use "
            f"configs/sweep.py. Without all three only the seeds differ"
        )
    numbers = all(isinstance(seed, int) for seed in seeds)
    if not seeds or not numbers or len(set(seeds)) < len(seeds):
        raise errors.BadInput(f"config.sweep.seeds={seeds}: expected one or more distinct numbers")
    for seed in seeds:
        within(0, 2**32, **{"sweep.seeds": seed})
    at_least(1, **{"sweep.machines": wanted.machines})
    within(0, wanted.machines, **{"sweep.machine": wanted.machine})
    return combinations(wanted.grid, config) if wanted.grid else [], seeds


def _trial(
    config: ConfigDict, at: Combination, seed: int, *, held_out: bool, others: bool
) -> Trial:
    """A training with or without the `dev` split held out; `others`: keep the other evaluators."""
    own = config.copy_and_resolve_references()
    own.update_from_flattened_dict(at.values)
    own.run, own.seed, own.best = "train", seed, ""
    if held_out:
        own.input.split = config.sweep.train
    if not others:
        keep_evaluators(own, ("dev",))
    own.evaluators.dev.split = config.sweep.dev if held_out else ""
    part = "without_dev" if held_out else "whole"
    return Trial(f"{part}_{at.label}_seed{seed}", at.values, own)


def carry_out(
    config: ConfigDict, sweep: Sweep, path: epath.Path, protocol: str, stop: StopSignal
) -> None:
    """`run`, checked and with signals caught; writes results.json to `path` when complete."""
    first = (sweep.choosing or sweep.final[0])[0]
    if not path.exists():  # refuses weights that do not fit before anything is written
        build_training(first.config).initial()
    workdir.begin(path, config)
    trials, choice = sweep.final[0], {}
    if sweep.choosing:
        choice = _made_choice(sweep, path, protocol, stop)
        if choice is None:
            return
        named = [_named(trial) for trial in sweep.choosing]
        trials = sweep.final[named.index(_without(sweep.best, choice))]
    found = run_all(trials, sweep.share, path, protocol, stop)
    if found is None:
        return
    none_diverged(found, trials, path)
    metrics = averaged(found)
    if choice:
        measured = {"best": sweep.best, "tested": sweep.tested}
        higher = sweep.higher_is_better
        print(sweep_table.table(choice, found, metrics, **measured, higher_is_better=higher))
    else:
        print(sweep_table.of_seeds(found, metrics))
    workdir.write_results(
        path,
        Results(
            run="sweep",
            protocol=protocol,
            metrics=metrics | _without(sweep.best, choice),
            **common_values(found),
            **cost(all_results(path)),
        ),
    )
    print(f"done: {path / workdir.RESULTS}", flush=True)


def _made_choice(
    sweep: Sweep, path: epath.Path, protocol: str, stop: StopSignal
) -> dict[str, Any] | None:
    """The content of choice.json, after the trials that it takes; None as in `run_all`."""
    if read(path / _CHOICE) is None:
        found = run_all(sweep.choosing, sweep.share, path, protocol, stop)
        if found is None:
            return None
        workdir.write_json(path / _CHOICE, _choose(sweep, found))
    return read(path / _CHOICE)


def _without(key: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def _choose(sweep: Sweep, found: list[dict | None]) -> dict:
    """The content of choice.json: the best combination, and all combinations with their values."""
    trials, values = sweep.choosing, [each and each["metrics"][sweep.best] for each in found]
    known = [value for value in values if value is not None]
    if not known:
        what = "rate" if RATE in trials[0].values else "combination"
        raise errors.Failure(f"the loss became NaN or infinite with every {what}: try smaller ones")
    best = max(known) if sweep.higher_is_better else min(known)
    chosen = trials[values.index(best)]  # of equally good ones the first: the smaller rate
    measured = [[*_named(t).values(), value] for t, value in zip(trials, values, strict=True)]
    return _named(chosen) | {sweep.best: measured}


def _named(trial: Trial) -> dict[str, Any]:
    """The trial's values in the form of choice.json and results.json."""
    named = {"learning_rate" if k == RATE else k: value for k, value in trial.values.items()}
    return json.loads(json.dumps(named))

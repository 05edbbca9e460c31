"""Refuses to resume a run if its config or data changed in a way that affects recorded numbers."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from etils import epath

from configs import groups
from mixer import errors
from mixer.data.sources.in_place import may_be_moved
from mixer.defaults import AUTO
from mixer.runs.evaluations import AVERAGED
from mixer.runs.training import Training
from mixer.training import durations, schedules

_TRAINING = ("train", "sweep", "vtab")  # the runs that train
# Keys that older versions did not have, with the values that mean what those did.
_SINCE = {
    "sam.rho": 0.0,
    "cutmix": 0.0,
    "input.mixture": [],
    "input.sampling": "examples",
    "class_weights": "",
    "distill.teacher": "",
    "optimizer.layer_decay": 1.0,
    "patience": 0,
    "probe.l2": [],
    "model.in_chans": 3,
}
# What tells one teacher from another.
_OF_TEACHER = ("step", "ema", "sha256", "checksums")

# Keys that do not affect a run's results.
_NOT_IN_RESULTS = (
    *("input.stage", "writers", "prepare.processes", "sweep.machine", "sweep.machines"),
)


def check_config(
    workdir: epath.Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    complete: bool,
    done: int = 0,
) -> None:
    """Refuses to mix two different runs in one folder; prints each change that it accepts.

    While a single training is not complete, its command may change the evaluators, `best`,
    `patience` to more, `on_bad` from error to skip, `total` to a longer one under a schedule that
    does not depend on it, there also the cooldown before it begins, the image limits to higher ones
    if no image was skipped, and the paths of data that are read in place and of a teacher, which
    `check_data` and `check_teacher` compare.

    Args:
      old: the keys that the run has used, "a.b": value.
      new: all keys of the command.
      complete: whether the run has ended; then only keys that do not affect results may differ.
      done: the steps of its newest checkpoint.

    Raises:
      BadInput: lists each key with its old and new value.
    """
    absent = "absent"
    run, asked = old.get("run", "train"), new.get("run", "train")
    if run != asked:
        raise errors.BadInput(
            f"--workdir={workdir} has the output of config.run={run}, and this is "
            f"config.run={asked}: give another --workdir"
        )
    old = as_now(old, run, new)
    # A run that does not evaluate during training may never have read its evaluators.
    added = {key for key in new if run in _TRAINING and key.startswith("evaluators.")} - old.keys()
    changed = {
        key: f"config.{key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}"
        for key in sorted(old.keys() | _of_new_evaluators(added, old, new))
        if old.get(key) != new.get(key)
        and affects_results(key)
        # With "auto" the dtype of the checkpoint's model is kept.
        and not (key == "model.dtype" and new.get(key) == AUTO)
    }
    # In a sweep, results of the new config would be compared with those of trials already done.
    one_training = run == "train" and not complete
    accepted = {
        k: t for k, t in changed.items() if one_training and _keeps_numbers(k, old, new, done)
    }
    if refused := [text for key, text in changed.items() if key not in accepted]:
        what, fix = "contains another run", "Give the same command to resume it, or give another"
        may = f"only runtime.*, {', '.join(_NOT_IN_RESULTS)} may"
        if complete:
            what, fix = "contains another run, which is complete", "Give another"
            if run == "train":
                fix = f"To train longer, start from it: --config.init_from={workdir}, with another"
        else:
            may += (
                ", and changes that keep all recorded numbers valid: evaluators, on_bad to skip, a "
                "longer total under a constant or rsqrt schedule, and there a cooldown and its "
                "total, in steps, if it begins after the newest checkpoint"
            )
        raise errors.BadInput(
            f"--workdir={workdir} {what}. {fix} --workdir. What differs ({may}):"
            f"\n  " + "\n  ".join(refused)
        )
    for text in accepted.values():
        print(f"from here on {text}", flush=True)


def as_now(old: Mapping[str, Any], run: str, keys: Collection[str]) -> dict[str, Any]:
    """An older config in today's form, for a config with these `keys`.

    It has no keys of other runs, a sweep's rates as its grid, and of a training the keys that it
    did not have yet.
    """
    found = {k: v for k, v in old.items() if run in (groups.runs_with(k) or [run])}
    if run in _TRAINING:
        found = {key: value for key, value in _SINCE.items() if key in keys} | found
    if rates := found.pop("sweep.rates", None):
        found["sweep.grid"] = str({"schedule.base": tuple(rates)})
    return found


def _of_new_evaluators(added: set[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """The splits of evaluators that the run did not have; their other keys are not listed.

    Also the views of those that it had before there were any.
    """
    known = {key.split(".")[1] for key in old if key.startswith("evaluators.")}
    listed = {False: (".split", ".datasets"), True: (".views",)}
    return {key for key in added if key.endswith(listed[key.split(".")[1] in known]) and new[key]}


def affects_results(key: str) -> bool:
    """Whether the results of a run depend on this key."""
    return key not in _NOT_IN_RESULTS and not key.startswith("runtime.")


def _keeps_numbers(key: str, old: Mapping[str, Any], new: Mapping[str, Any], done: int) -> bool:
    """Whether all numbers recorded so far would be the same with the new value."""
    if key.startswith("evaluators."):
        # The best checkpoint was chosen by this evaluator.
        chosen_by = old.get("best", "").partition("/")[0].removesuffix(AVERAGED)
        return key.split(".")[1] != chosen_by or key.endswith((".every", ".batch_size"))
    if key == "input.on_bad":
        return new[key] == "skip"
    if key in ("input.max_pixels", "input.max_aspect_ratio"):
        return new[key] >= old[key] and old.get("input.on_bad") == "error"  # none was skipped
    if key in ("total", "schedule.cooldown"):
        if old["schedule.decay"] not in schedules.ENDLESS:
            return False
        if old["schedule.cooldown"] == new["schedule.cooldown"] == "0 steps":
            return _is_longer(old[key], new[key])
        return done <= min(_steps_before_cooldown(old), _steps_before_cooldown(new))
    if key == "best":
        return True
    if key == "patience":  # less of it may have been over earlier
        return 0 in (old[key], new[key]) or new[key] >= old[key]
    if key == "distill.teacher":
        return bool(old[key] and new[key])
    if key == "distill.step":
        return True
    if key == "dataset":
        return may_be_moved(str(old[key]), str(new.get(key)))
    return False


def _is_longer(old: str, new: str) -> bool:
    """Whether `new` is the longer of two durations in the same unit."""
    numbers = [durations.to_steps(duration, 1, 1, "total") for duration in (old, new)]
    units = {duration.split()[-1].rstrip("s") for duration in (old, new)}
    return len(units) == 1 and numbers[0] < numbers[1]


def _steps_before_cooldown(config: Mapping[str, Any]) -> int:
    """Steps whose rate depends neither on the total nor on the cooldown; -1: not known here.

    The number of steps in an epoch is not.
    """
    keys = "total", "schedule.cooldown"
    if any("epoch" in config[key] for key in keys):
        return -1
    total, cooldown = (durations.to_steps(config[k], config["batch_size"], 1, k) for k in keys)
    return total - cooldown


def check_data(
    workdir: epath.Path,
    training: Training,
    recorded: Any,
    otherwise: str = "start in another --workdir",
) -> None:
    """Refuses to resume if the examples that were trained on or measured have changed.

    Args:
      recorded: `training.examples` of the previous session. An evaluation on another dataset or
        split counts as a new one; `check_config` has printed that change.
      otherwise: the alternative to putting the training examples back, for the message.

    Raises:
      BadInput: names what changed.
    """
    if not isinstance(recorded, Mapping):
        raise errors.BadInput(
            f"{workdir} was begun by an older version of this program, which recorded its training "
            f"data in another form: finish it with that version, or start in another --workdir"
        )
    for name, now in training.examples.items():
        for before, (dataset, split, count, digest) in zip(
            recorded.get(name, ()), now, strict=False
        ):
            trained_on = name == "training"
            if before[-1] == digest or not (trained_on or _same(before[:2], (dataset, split))):
                continue
            use, fix = "has measured", "give the new ones to an evaluator of another name"
            if trained_on:
                use, fix = "was trained on", otherwise
            raise errors.BadInput(
                f"the examples of {dataset} {split} ({count:,} now) are not those that {workdir} "
                f"{use}: put them back, or {fix}"
            )


def check_teacher(workdir: epath.Path, training: Training, recorded: dict | None) -> None:
    """Refuses to resume if `config.distill` gives another teacher. It may lie elsewhere now.

    Args:
      recorded: `Teacher.origin` of the previous session; None: there was no teacher.

    Raises:
      BadInput: names both.
    """
    now = training.teacher
    if _but_for_path(recorded) != _but_for_path(now):
        raise errors.BadInput(
            f"{workdir} was trained with {_told(recorded)}, now config.distill has {_told(now)}: "
            f"give the same again (config.distill.step chooses a checkpoint of a workdir), or "
            f"start in another --workdir"
        )


def _but_for_path(origin: dict | None) -> dict | None:
    return origin and {key: value for key, value in origin.items() if key != "path"}


def _told(origin: dict | None) -> str:
    if origin is None:
        return "no teacher"
    parts = [f"{key} {str(origin[key])[:12]}" for key in _OF_TEACHER if origin[key]]
    return f"the teacher {origin['path']} ({', '.join(parts)})"


def _same(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether both are the same (dataset, split); data read in place may have been moved."""
    return before[1] == now[1] and (before[0] == now[0] or may_be_moved(before[0], now[0]))


def still_measured(training: Training, results: Mapping[str, float]) -> dict[str, float]:
    """`results` without those of removed evaluators, which would be taken for final ones."""
    names = {
        f"{evaluation.name}{kind}" for evaluation in training.evaluations for kind in ("", AVERAGED)
    }
    return {key: value for key, value in results.items() if key.partition("/")[0] in names}


def check_total(workdir: epath.Path, step: int, total: int) -> None:
    """Refuses a total that the run has already passed.

    Raises:
      BadInput: `step` > `total`.
    """
    if step > total:
        raise errors.BadInput(
            f"config.total is {total:,} steps, but {workdir} has done {step:,}: give a longer one"
        )

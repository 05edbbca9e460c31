"""What may have changed when a run is gone on with: nothing that a number already made rests on."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from configs import groups
from mixer import errors
from mixer.runs.evaluations import AVERAGED
from mixer.runs.training import Training
from mixer.training import durations

# Keys that change no number of a run.
_CHANGE_NO_NUMBER = ("input.stage", "prepare.processes", "sweep.machine", "sweep.machines")
_FOLDER = "folder:"


def check_config(
    workdir: epath.Path, old: Mapping[str, Any], new: Mapping[str, Any], *, complete: bool
) -> None:
    """Refuses to mix two different runs in one folder, and says what is accepted.

    A single training that is not complete may have other evaluators, another `best`, `on_bad` set
    from error to skip, higher limits of images where none was skipped, a longer `total` under a
    constant schedule, and its folder of images under another path: `check_data` compares these.

    Args:
      old: the keys that the run has used, "a.b": value.
      new: all keys of the command.
      complete: whether the run has ended; then nothing but those of `changes_no_number` may differ.

    Raises:
      BadInput: lists each key with its old and new value.
    """
    absent = "absent"
    run = old.get("run", "train")
    old = _as_now(old, run)
    # Of a run that measures nothing while it trains, evaluators may never have been read.
    trains = run in ("train", "sweep", "vtab")
    added = {key for key in new if trains and key.startswith("evaluators.")} - old.keys()
    changed = {
        key: f"config.{key}: {old.get(key, absent)!r} -> {new.get(key, absent)!r}"
        for key in sorted(old.keys() | _of_new_evaluators(added, old, new))
        if old.get(key) != new.get(key) and not changes_no_number(key)
    }
    # A sweep has trials that ended; the numbers of others would be compared with theirs.
    one_training = run == "train" and not complete
    accepted = {k: t for k, t in changed.items() if one_training and _goes_on(k, old, new)}
    if refused := [text for key, text in changed.items() if key not in accepted]:
        what, mend = "holds another run", "Give the same command to go on with it"
        may = f"only runtime.*, {', '.join(_CHANGE_NO_NUMBER)} may"
        if complete:
            what = "holds another run, which is complete"
            mend = f"To train longer, start from it: --config.init_from={workdir}"
        else:
            may += (
                ", and what cannot change a number that is already made: evaluators, on_bad to "
                "skip, a longer total under a constant schedule"
            )
        raise errors.BadInput(
            f"--workdir={workdir} {what}. {mend}, or give another --workdir. What differs ({may}):"
            f"\n  " + "\n  ".join(refused)
        )
    for text in accepted.values():
        print(f"from here on {text}", flush=True)


def _as_now(old: Mapping[str, Any], run: str) -> dict[str, Any]:
    """Without keys of other runs, as older configs have them; a sweep's rates as its grid."""
    found = {k: v for k, v in old.items() if run in (groups.runs_with(k) or [run])}
    if rates := found.pop("sweep.rates", None):
        found["sweep.grid"] = str({"schedule.base": tuple(rates)})
    return found


def _of_new_evaluators(added: set[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> set[str]:
    """The splits of evaluators that the run did not have; their other keys go without saying."""
    known = {key.split(".")[1] for key in old if key.startswith("evaluators.")}
    return {
        key
        for key in added
        if key.split(".")[1] not in known and key.endswith((".split", ".datasets")) and new[key]
    }


def changes_no_number(key: str) -> bool:
    """Whether a run has the same results with any value of this key."""
    return key in _CHANGE_NO_NUMBER or key.startswith("runtime.")


def _goes_on(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a number that is already made would be the same with the new value."""
    if key.startswith("evaluators."):
        # A checkpoint was chosen by the numbers of this one.
        chosen_by = old.get("best", "").partition("/")[0].removesuffix(AVERAGED)
        return key.split(".")[1] != chosen_by or key.endswith((".every", ".batch_size"))
    if key == "input.on_bad":
        return new[key] == "skip"
    if key in ("input.max_pixels", "input.max_aspect_ratio"):
        return new[key] >= old[key] and old.get("input.on_bad") == "error"  # none was skipped
    if key == "total":
        constant = old["schedule.decay"] == "constant" and old["schedule.cooldown"] == "0 steps"
        return constant and _is_longer(old[key], new[key])
    if key == "best":
        return True
    if key == "dataset":
        return all(str(value).startswith(_FOLDER) for value in (old[key], new.get(key)))
    return False


def _is_longer(old: str, new: str) -> bool:
    """Of two durations in one unit."""
    numbers = [durations.to_steps(duration, 1, 1, "total") for duration in (old, new)]
    units = {duration.split()[-1].rstrip("s") for duration in (old, new)}
    return len(units) == 1 and numbers[0] < numbers[1]


def check_data(
    workdir: epath.Path,
    training: Training,
    recorded: Any,
    otherwise: str = "start in another --workdir",
) -> None:
    """Refuses to go on with other examples than those that were trained on and measured.

    Args:
      recorded: `training.examples` of the session before. An evaluation of another dataset or split
        than then is a new one, which `check_config` has said.
      otherwise: what may be done instead of putting back what was trained on.

    Raises:
      BadInput: names what changed.
    """
    if not isinstance(recorded, Mapping):
        raise errors.BadInput(
            f"{workdir} was begun by an older version of this program, which noted otherwise what "
            f"it was trained on: finish it with that one, or start in another --workdir"
        )
    for name, now in training.examples.items():
        for before, (dataset, split, count, digest) in zip(
            recorded.get(name, ()), now, strict=False
        ):
            trained_on = name == "training"
            if before[-1] == digest or not (trained_on or _same(before[:2], (dataset, split))):
                continue
            use, mend = "has measured", "give the new ones to an evaluator of another name"
            if trained_on:
                use, mend = "was trained on", otherwise
            raise errors.BadInput(
                f"the examples of {dataset} {split} ({count:,} now) are not those that {workdir} "
                f"{use}: put them back, or {mend}"
            )


def _same(before: Sequence[str], now: Sequence[str]) -> bool:
    """Whether it is one split by its name; a folder may have been moved."""
    moved = all(dataset.startswith(_FOLDER) for dataset in (before[0], now[0]))
    return before[1] == now[1] and (moved or before[0] == now[0])


def still_measured(training: Training, results: Mapping[str, float]) -> dict[str, float]:
    """Without the numbers of evaluators that the run has no more: they would stand as final."""
    names = {
        f"{evaluation.name}{kind}" for evaluation in training.evaluations for kind in ("", AVERAGED)
    }
    return {key: value for key, value in results.items() if key.partition("/")[0] in names}


def check_total(workdir: epath.Path, step: int, total: int) -> None:
    """Refuses a total that the run has passed.

    Raises:
      BadInput: it has.
    """
    if step > total:
        raise errors.BadInput(
            f"config.total is {total:,} steps, and {workdir} has done {step:,}: give a longer one"
        )

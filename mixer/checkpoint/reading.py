"""Reads a run's checkpoints, even while the run is training and removes old ones."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from etils import epath
from flax import traverse_util

from mixer import errors
from mixer.checkpoint import folders
from mixer.checkpoint.best import Best
from mixer.checkpoint.damage import DamagedCheckpoint
from mixer.checkpoint.model_card import ModelCard
from mixer.checkpoint.store import Store

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

# How many times loading may start over because the checkpoint was removed.
_ATTEMPTS = 20


class Gone(errors.BadInput):
    """A checkpoint that no longer exists."""


def again_if_gone(load: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Makes `load` start over when the run removed the checkpoint that was being loaded.

    Each attempt chooses among the checkpoints that exist then, so all it loads is from one step.

    Raises:
      Gone: the requested step no longer exists, or a checkpoint was removed in every attempt.
    """

    @functools.wraps(load)
    def loading(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        before = None
        for _ in range(_ATTEMPTS):
            try:
                return load(*args, **kwargs)
            except Gone as error:
                if str(error) == str(before):
                    raise
                before = error
                time.sleep(0.1)
        raise Gone(
            f"{before}. This happened {_ATTEMPTS} times: raise config.runtime.checkpoint_every of "
            f"the run that is training there, or wait until it is done"
        )

    return loading


@again_if_gone
def read_meta(path: str, step: int | str | None = None) -> dict:
    """The checkpoint's meta: "step", "card", "results" and what resuming needs.

    Raises:
      BadInput: `path` has no checkpoint, or it is damaged.
    """
    with _open(path) as store:
        chosen = _pick(store, path, step)
        try:
            return store.meta(chosen)
        except DamagedCheckpoint as error:
            raise _unreadable(store, path, chosen, error) from None


def newest_card(workdir: epath.Path) -> ModelCard | None:
    """The card of the newest undamaged checkpoint in a workdir; None if there is none."""
    if folders.newest(workdir / "checkpoints") is None:
        return None
    with _open(str(workdir)) as store:
        for step in reversed(store.steps()):
            with contextlib.suppress(DamagedCheckpoint):
                return ModelCard.from_json(store.meta(step)["card"])
    return None


@again_if_gone
def read_arrays(
    path: str, step: int | str | None, item: str
) -> tuple[dict[str, np.ndarray], ModelCard, int]:
    """A checkpoint's parameters by name ("stem/kernel"), its card and its step.

    Args:
      step: a number, "best", or None for the newest.
      item: "params", or "ema" for the averaged ones.

    Raises:
      BadInput: the checkpoint does not exist, is damaged, or has no averaged parameters.
    """
    with _open(path) as store:
        chosen = _pick(store, path, step)
        try:
            meta = store.meta(chosen)
            card = ModelCard.from_json(meta["card"])
            if item not in meta["checksums"]:
                raise errors.BadInput(
                    f"{path} has no averaged parameters: it was trained without config.ema_decay"
                )
            here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
            abstract = store.abstract(chosen, item, here)
            stored = jax.device_get(store.restore(chosen, {item: abstract})[item])
        except DamagedCheckpoint as error:
            raise _unreadable(store, path, chosen, error) from None
    return traverse_util.flatten_dict(stored, sep="/"), card, chosen


def _open(path: str) -> Store:
    directory = epath.Path(path).expanduser() / "checkpoints"
    # While the only step is saved again, it is in the second; in a bucket the first is then gone.
    existing = [f for f in (directory, folders.replaced(directory)) if f.exists()]
    if not existing:
        inside = directory.parent
        around = next((f for f in (inside, *inside.parents) if f.name == "checkpoints"), None)
        if around is not None and around.exists():
            raise errors.BadInput(
                f"{str(path)!r} is in the workdir of a run: give the workdir, {around.parent}; "
                f"config.init_step (in Python step) chooses one of its checkpoints"
            )
        also = "" if directory.parent.exists() else ", and neither a file nor a published name"
        raise errors.BadInput(
            f"{str(path)!r} is not the workdir of a training run{also}: {directory} does not exist"
        )
    for folder in existing:
        store = Store(folder, read_only=True)
        if store.steps():
            break
    return store


def _pick(store: Store, path: str, step: int | str | None) -> int:
    steps = store.steps()
    if not steps:
        # A listing made while checkpoints are replaced may miss both the old and the new one.
        raise Gone(f"{path} has no checkpoint yet")
    if step is None:
        return steps[-1]
    if step == "best":
        metas = {s: meta for s in steps if (meta := _meta(store, s)).get("best") is not None}
        # An earlier session may have had another metric.
        best = Best.of(metas[max(metas)]) if metas else Best()
        ranks = {s: rank for s, meta in metas.items() if (rank := best.rank(meta)) is not None}
        if not ranks:
            raise errors.BadInput(f"{path} has no best checkpoint: train it with config.best set")
        return max(ranks, key=lambda each: ranks[each])
    if step not in steps:
        raise Gone(f"{path} has no checkpoint of step {step!r}; it has {steps}")
    return step


def _meta(store: Store, step: int) -> dict[str, Any]:
    """The JSON of a checkpoint; {} if it cannot be read."""
    try:
        return store.meta(step)
    except DamagedCheckpoint as error:
        if store.has(step):
            print(f"damaged checkpoint, skipped: {error}", flush=True)
        return {}


def _unreadable(store: Store, path: str, step: int, error: DamagedCheckpoint) -> errors.BadInput:
    """The error to raise: the checkpoint is damaged, or it was removed while it was read."""
    if store.has(step):
        return errors.BadInput(f"damaged checkpoint: {error}")
    return Gone(f"{path}: checkpoint {step} was removed while it was read")

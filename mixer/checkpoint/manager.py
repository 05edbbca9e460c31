"""Orbax's CheckpointManager, set up as `mixer.checkpoint.store` needs it."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from mixer import storage
from mixer.checkpoint.damage import hush_orbax
from mixer.checkpoint.folders import SEAL

# Remarks of Orbax's, and what its threads log of a failure that is raised here, are of no use to
# our users.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
hush_orbax()

# By this name Orbax knows what the best is chosen by.
BEST = "best"
_policies = ocp.checkpoint_managers


class Reader(ocp.CheckpointManager):
    """To load only.

    It waits for no other process, so that one that cannot read its part does not hold up all.
    """

    def __init__(self, directory: epath.Path):
        me = jax.process_index()
        alone = ocp.options.MultiprocessingOptions(
            primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"reader_{me}"
        )
        super().__init__(
            directory,
            options=ocp.CheckpointManagerOptions(
                create=False,
                read_only=True,
                cleanup_tmp_directories=False,
                multiprocessing_options=alone,
            ),
        )

    def metrics(self, step: int) -> None:
        """Orbax asks at the start for those of all steps, which may be damaged: none are needed."""


class Writer(ocp.CheckpointManager):
    """To save: leaves preemption to the training loop, which counts it, and removal to `remover`.

    Args:
      directory: made if it is missing.
      keep: how many of the newest are kept.
      score: of a step on the disk, what the best is chosen by, which is kept besides; None if it
        was not evaluated. Without this function none is.
      remover: of old ones.
    """

    def __init__(
        self,
        directory: epath.Path,
        keep: int,
        score: Callable[[int], float | None] | None,
        remover: "Remover",
    ):
        self._score = score
        policies: list[Any] = [_policies.LatestN(keep)]
        if score:
            policies.append(
                _policies.BestN(
                    n=1,
                    get_metric_fn=lambda metrics: metrics[BEST],
                    keep_checkpoints_without_metrics=False,
                )
            )
        super().__init__(
            directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_policies.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=True,
                # Threads would wait minutes for a folder that another one cannot make.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            ),
        )
        # Orbax's own removes file by file under the old name, and fails the save if it cannot.
        self._checkpoint_deleter = remover

    def metrics(self, step: int) -> dict[str, float] | None:
        """As Orbax asks at the start, for all steps at once, from threads of its own."""
        score = self._score(step) if self._score else None
        return None if score is None else {BEST: score}

    def forget(self, step: int) -> None:
        """Of a step that was moved away. `reload` would list the folder, which may be old news."""
        self._checkpoints.delete_if(lambda info: info.step == step)

    def reached_preemption(self, step: int) -> bool:
        return False


class Remover:
    """Removes old checkpoints. What it cannot remove does no harm, and is told by `say`."""

    def __init__(self, directory: epath.Path):
        self._directory = directory
        self._troubles: list[str] = []
        self._left: list[tuple[Callable[[epath.Path], None], epath.Path]] = []

    def delete_steps(self, steps: Sequence[int]) -> None:
        """As Orbax calls it, in a thread of its own."""
        for step in steps if jax.process_index() == 0 else ():
            self.remove(self._directory / str(step))

    def remove(self, folder: epath.Path) -> None:
        """Removes one of them."""
        with self._noting(self.remove, folder):
            storage.remove(folder, SEAL)

    def clear(self, folder: epath.Path) -> None:
        """Removes a folder of them; it need not be there."""
        with self._noting(self.clear, folder):
            if folder.exists():
                # Each with its own seal.
                for part in folder.iterdir() if storage.is_remote(folder) else (folder,):
                    storage.remove(part, SEAL)

    def try_again(self) -> None:
        """Removes what could not be removed: a disk may have refused it just once."""
        left, self._left = self._left, []
        for remove, folder in left:
            if folder.exists():
                remove(folder)

    @contextlib.contextmanager
    def _noting(self, remove: Callable[[epath.Path], None], folder: epath.Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # stores have many kinds
            self._left.append((remove, folder))
            reason = storage.trouble(error)[1]
            self._troubles.append(f"{folder} cannot be removed: {reason}")

    def say(self) -> None:
        """Warns of what could not be removed since the last time."""
        while self._troubles:
            print(f"warning: {self._troubles.pop()}; the newer one is written", flush=True)

    def close(self) -> None:
        """As Orbax calls it; nothing is left to do."""

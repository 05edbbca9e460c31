"""Orbax's CheckpointManager as `mixer.checkpoint.store` needs it: which checkpoints are kept."""

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

# Orbax's remarks do not help users, and what its threads log about a failure is also raised here.
for _name in ("absl", "asyncio"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
hush_orbax()

_BEST, _STEP = "best", "step"
_policies = ocp.checkpoint_managers


class Reader(ocp.CheckpointManager):
    """A read-only manager.

    It waits for no other process, so that a process that cannot read its part blocks no other.
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
        """None: Orbax reads the metrics of all steps at the start, but some may be damaged."""


class Writer(ocp.CheckpointManager):
    """A manager that saves. Preemption is up to the training loop; `remover` removes old steps.

    Args:
      directory: created if it is missing.
      keep: how many of the newest checkpoints are kept.
      rank: returns for a step on disk the number that is highest for the best step, which is kept
        too; None if the step was not evaluated. If `rank` itself is None, no best step is kept.
      remover: removes old checkpoints.
    """

    def __init__(
        self,
        directory: epath.Path,
        keep: int,
        rank: Callable[[int], float | None] | None,
        remover: "Remover",
    ):
        self._rank = rank
        policies: list[Any] = [_policies.LatestN(keep)]
        if rank:
            policies.append(
                _policies.BestN(
                    n=1,
                    get_metric_fn=lambda found: (found[_BEST], -found[_STEP]),
                    keep_checkpoints_without_metrics=False,
                )
            )
        super().__init__(
            directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_policies.AnyPreservationPolicy(policies),
                cleanup_tmp_directories=True,
                # Otherwise threads wait minutes for a folder that another thread cannot create.
                async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
            ),
        )
        # Orbax's own deleter removes file by file in place, and if it cannot, the save fails.
        self._checkpoint_deleter = remover

    def metrics(self, step: int) -> dict[str, float] | None:
        """Orbax calls it at the start, for all steps at once, from its own threads."""
        return metrics_of(step, self._rank(step) if self._rank else None)

    def forget(self, step: int) -> None:
        """Drops a step that was moved away. `reload` would list the folder, which may be stale."""
        self._checkpoints.delete_if(lambda info: info.step == step)

    def reached_preemption(self, step: int) -> bool:
        return False


def metrics_of(step: int, rank: float | None) -> dict[str, float] | None:
    """What Orbax selects the best step by: the rank, and of equal ones the earliest."""
    return None if rank is None else {_BEST: rank, _STEP: step}


class Remover:
    """Removes old checkpoints. One that cannot be removed does no harm; `say` warns about it."""

    def __init__(self, directory: epath.Path):
        self._directory = directory
        self._troubles: list[str] = []
        self._left: list[tuple[Callable[[epath.Path], None], epath.Path]] = []

    def delete_steps(self, steps: Sequence[int]) -> None:
        """Orbax calls it from its own thread."""
        for step in steps if jax.process_index() == 0 else ():
            self.remove(self._directory / str(step))

    def remove(self, folder: epath.Path) -> None:
        """Removes one checkpoint."""
        with self._recording(self.remove, folder):
            storage.remove(folder, SEAL)

    def clear(self, folder: epath.Path) -> None:
        """Removes a folder of checkpoints if it exists."""
        with self._recording(self.clear, folder):
            if folder.exists():
                # One by one: each has its own seal.
                for part in folder.iterdir() if storage.is_remote(folder) else (folder,):
                    storage.remove(part, SEAL)

    def try_again(self) -> None:
        """Retries what could not be removed: the disk may have refused it just once."""
        left, self._left = self._left, []
        for remove, folder in left:
            if folder.exists():
                remove(folder)

    @contextlib.contextmanager
    def _recording(
        self, remove: Callable[[epath.Path], None], folder: epath.Path
    ) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each object store's client has its own types
            self._left.append((remove, folder))
            reason = storage.trouble(error)[1]
            self._troubles.append(f"{folder} cannot be removed: {reason}")

    def say(self) -> None:
        """Prints a warning for each folder that could not be removed since the last call."""
        while self._troubles:
            print(f"warning: {self._troubles.pop()}; the newer one was written", flush=True)

    def close(self) -> None:
        """Orbax calls it; there is nothing to close."""

"""Saves and restores a run's checkpoints: Orbax, asynchronous, atomic, every array verified.

mixer/runs/checkpoints.py decides what a training run puts into one.
"""

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from mixer import storage
from mixer.checkpoint import folders
from mixer.checkpoint.best import Best
from mixer.checkpoint.checksum import checksums, verified, with_digest
from mixer.checkpoint.damage import DamagedCheckpoint, Unreachable, reading, writing
from mixer.checkpoint.manager import Reader, Remover, Writer, metrics_of
from mixer.errors import BadInput, Failure

_META, _META_FILE = "meta", "meta/metadata"  # as Orbax names it


class Store:
    """One directory per step, with named trees of arrays ("items") and a JSON `meta`.

    Args:
      directory: `<workdir>/checkpoints`; created if it is missing, unless `read_only`.
      keep: how many of the newest checkpoints are kept.
      best: the metric whose best checkpoint is kept too; "" for none.
      higher_is_better: whether that is the one with its highest value, else the lowest.
      read_only: whether nothing is saved.
      first_message: with several processes, all call it at the same points: takes this process's
        message or None, returns the first message of any process.
    """

    def __init__(
        self,
        directory: str,
        *,
        keep: int = 1,
        best: str = "",
        higher_is_better: bool = True,
        read_only: bool = False,
        first_message: Callable[[str | None], str | None] = lambda trouble: trouble,
    ):
        self._first_message = first_message
        self._directory = epath.Path(directory).expanduser()
        if not storage.is_remote(directory):
            self._directory = epath.Path(self._directory.absolute())
        self._best = Best(best, higher_is_better)
        self._remover, self._under_way, self._replacing = Remover(self._directory), False, False
        if not read_only:
            with writing(str(self._directory)):
                # Before the folder is listed: an NFS client caches a listing for a while.
                self._on_first_process(self._clean_up)
        self._reader = self._manager = Reader(self._directory)
        self._writer: Writer | None = None
        if not read_only:
            rank = self._rank if best else None
            with writing(str(self._directory)):
                self._writer = Writer(self._directory, keep, rank, self._remover)
            self._manager = self._writer
            self._check_processes_agree()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind, error, _) -> None:
        if kind and self._under_way and self._manager.is_saving_in_progress():
            # It may wait for an unreachable store. OSError: the output may be closed.
            with contextlib.suppress(OSError):
                print("exiting once the checkpoint in progress is written", flush=True)
        # Report the error that ends the run, not one of the checkpoint.
        with contextlib.suppress(Failure) if kind else contextlib.nullcontext():
            self.wait()
            for manager in {self._manager, self._reader}:
                manager.close()
            if self._writer:
                self._remover.try_again()
                self._remove_abandoned()

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def has(self, step: int) -> bool:
        """Whether the checkpoint of `step` now exists and is complete."""
        return folders.is_complete(self._directory / str(step))

    def save(
        self, step: int, items: dict[str, Any], meta: dict, metrics: dict[str, float] | None
    ) -> None:
        """Starts writing `step`; raises the error, if any, of the previous write.

        A checkpoint of the same step is replaced once the new one is complete. If a best
        checkpoint is kept, `Best.recorded` of the metrics is added to `meta`.

        Raises:
          Failure: it cannot be written; earlier checkpoints are intact.
          RuntimeError: Orbax refused to save.
        """
        self.wait()
        sums = {name: checksums(tree) for name, tree in items.items()}
        # A copy: Orbax writes it from a thread, when the caller may have changed its counts.
        meta = copy.deepcopy(meta) | {"step": step, "checksums": sums}
        meta |= self._best.recorded(metrics or {})
        rank = self._best.rank(meta)
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        args[_META] = ocp.args.JsonSave(with_digest(meta))
        with writing(str(self._directory)):
            replaces = step in self._manager.all_steps()
            if replaces:
                folder = folders.replaced(self._directory)
                self._on_first_process(
                    lambda: folders.set_aside(self._directory / str(step), folder)
                )
                self._writer.forget(step)
            accepted = self._manager.save(
                step,
                args=ocp.args.Composite(**args),
                metrics=metrics_of(step, rank),
            )
        self._under_way, self._replacing = True, replaces
        if not accepted:
            raise RuntimeError(
                f"Orbax refused to save step {step} in {self._directory}, which has {self.steps()}"
            )

    def wait(self) -> None:
        """Returns when the last save is on disk.

        Raises:
          Failure: it could not be written; earlier checkpoints are intact.
        """
        with writing(str(self._directory)):
            # If this fails, the next start restores the checkpoint that was being replaced.
            replacing, self._replacing, self._under_way = self._replacing, False, False
            self._manager.wait_until_finished()
        if replacing and jax.process_index() == 0:
            self._remover.clear(folders.replaced(self._directory))
        self._remover.say()

    def _on_first_process(self, change: Callable[[], None]) -> None:
        """Runs `change` on process 0; all processes wait until it is done, or raise its error."""
        failed = None
        try:
            if jax.process_index() == 0:
                change()
        except Exception as error:  # each object store's client has its own types
            failed = error
        trouble = self._first_message(failed and (str(failed) or type(failed).__name__))
        if trouble:
            raise failed or Failure(trouble)

    def _check_processes_agree(self) -> None:
        """Checks that all processes see the same checkpoints: from now on each has its own list."""
        mine = str(self.steps())
        first = self._first_message(mine)
        differs = f"{self._directory} has steps {first} for one process, {mine} for another"
        if trouble := self._first_message(differs if mine != first else None):
            raise Unreachable(f"{trouble}. Run the same command again for all processes")

    def _clean_up(self) -> None:
        """Finishes what a killed run left: removals, and the restoring of a replaced checkpoint."""
        self._remove_abandoned()
        folders.put_back(self._directory)
        self._remover.clear(folders.replaced(self._directory))

    def _remove_abandoned(self) -> None:
        if not storage.is_remote(self._directory) and jax.process_index() == 0:
            for folder in (self._directory, self._directory.parent):
                storage.remove_abandoned(folder)

    def meta(self, step: int) -> dict:
        """The JSON saved with `step`.

        Raises:
          DamagedCheckpoint: it cannot be read, was altered or belongs to another step.
          Unreachable: the disk or the store does not answer; `restore` and `abstract` raise it too.
          BadInput: it was written by a newer version of this program.
        """
        where = f"{self._directory}/{step}: {_META}"
        with reading(where):
            # Not with Orbax: its threads ask for the scores of all steps at once.
            content = {**json.loads((self._directory / str(step) / _META_FILE).read_bytes())}
        meta = verified(content, where)
        if meta.get("step") != step:
            raise DamagedCheckpoint(f"{where} records another step: {meta.get('step')}")
        return meta

    def _rank(self, step: int) -> float | None:
        try:
            return self._best.rank(self.meta(step))
        except (DamagedCheckpoint, BadInput):
            return None

    def restore(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """Restores items with the shapes, dtypes and shardings of `abstract`; verifies checksums.

        Raises:
          DamagedCheckpoint: names the array that is missing, unreadable or altered.
        """
        self.wait()
        return self._check(step, self._read(step, abstract), self.meta(step))

    def _read(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        items = {}
        for name, tree in abstract.items():
            with reading(f"{self._directory}/{step}: {name}"):
                args = ocp.args.Composite(**{name: ocp.args.StandardRestore(tree)})
                items[name] = self._reader.restore(step, args=args)[name]
        return items

    def _check(self, step: int, items: dict[str, Any], meta: dict) -> dict[str, Any]:
        for name, tree in items.items():
            stored, found = meta["checksums"][name], checksums(tree)
            for leaf in stored:
                if stored[leaf] != found.get(leaf):
                    raise DamagedCheckpoint(
                        f"{self._directory}/{step}: array {name}/{leaf} was altered after it was "
                        f"written (checksum {found.get(leaf)}, saved {stored[leaf]})"
                    )
        return items

    def abstract(self, step: int, item: str, sharding: jax.sharding.Sharding) -> Any:
        """Shapes and dtypes of a saved item as plain nested dicts and lists, for `restore`.

        Raises:
          DamagedCheckpoint: the item does not exist or cannot be read.
        """
        with reading(f"{self._directory}/{step}: {item}"):
            with ocp.StandardCheckpointer() as reader:
                metadata = reader.metadata(self._directory / str(step) / item).item_metadata
            return jax.tree.map(
                lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), metadata.tree
            )

    def restore_newest(
        self,
        abstract: dict[str, Any],
        report: Callable[[str], None],
        check: Callable[[dict], None] = lambda meta: None,
    ) -> tuple[dict[str, Any], dict] | None:
        """The items and meta of the newest undamaged checkpoint; None if there is no checkpoint.

        Damaged checkpoints are reported. Once an older one has been read, they are moved to
        `<workdir>/damaged` so that their steps can be saved again. `check(meta)` may raise to
        refuse a checkpoint before its arrays are read.

        Raises:
          DamagedCheckpoint: there are checkpoints but none can be read; none are moved.
          Unreachable: it is not known whether the newest is damaged.
        """
        bad = []
        for step in reversed(self.steps()):
            try:
                meta = self._read_on_all(lambda step=step: self.meta(step))
                check(meta)
                items = self._read_on_all(lambda step=step: self._read(step, abstract))
                found = self._check(step, items, meta), meta
            except DamagedCheckpoint as error:
                report(f"damaged checkpoint: {error}")
                bad.append((step, error))
                continue
            for damaged, _ in bad:
                self._set_aside(damaged, report)
            return found
        if bad:
            raise DamagedCheckpoint(
                f"none of the {len(bad)} checkpoints in {self._directory} can be read; the newest: "
                f"{bad[0][1]}"
            )
        return None

    def _read_on_all(self, read: Callable[[], Any]) -> Any:
        """`read()`; if one process cannot reach the checkpoint or finds it damaged, all raise."""
        found, troubles = None, dict.fromkeys((Unreachable, DamagedCheckpoint))
        try:
            found = read()
        except tuple(troubles) as error:
            troubles[type(error)] = str(error)
        for kind, mine in troubles.items():
            if trouble := self._first_message(mine):
                raise kind(trouble)
        return found

    def _set_aside(self, step: int, report: Callable[[str], None]) -> None:
        old, folder = self._directory / str(step), self._directory.parent / "damaged"
        self._on_first_process(lambda: report(f"moved to {folders.set_aside(old, folder)}"))
        self._writer.forget(step)

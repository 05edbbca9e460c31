"""A run's checkpoints: Orbax, asynchronous and atomic, every array checked when it comes back.

What a training puts into one is in mixer/runs/checkpoints.py.
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
from mixer.checkpoint.checksum import checked, checksums, guarded
from mixer.checkpoint.damage import DamagedCheckpoint, Unreachable, reading, writing
from mixer.checkpoint.manager import BEST, Reader, Remover, Writer
from mixer.errors import BadInput, Failure

_META, _META_FILE = "meta", "meta/metadata"  # as Orbax names it


class Store:
    """Named trees of arrays ("items") and a JSON `meta`, one directory a step.

    Args:
      directory: `<workdir>/checkpoints`; made if it is missing, unless `read_only`.
      keep: how many of the newest are kept.
      best: name of the metric whose highest checkpoint is kept besides; "" for none.
      read_only: to load only.
      first_message: for a run of several processes, all of which call it at the same points: takes
        this process's message or None, returns the first that any process has.
    """

    def __init__(
        self,
        directory: str,
        *,
        keep: int = 1,
        best: str = "",
        read_only: bool = False,
        first_message: Callable[[str | None], str | None] = lambda trouble: trouble,
    ):
        self._first_message = first_message
        self._directory = epath.Path(directory).expanduser()
        if not storage.is_remote(directory):
            self._directory = epath.Path(self._directory.absolute())
        self._best = best
        self._remover, self._under_way, self._replacing = Remover(self._directory), False, False
        if not read_only:
            with writing(str(self._directory)):
                # Before the folder is listed: an NFS client shows for a while what it has seen.
                self._in_one(self._put_in_order)
        self._reader = self._manager = Reader(self._directory)
        self._writer: Writer | None = None
        if not read_only:
            score = self._score if best else None
            with writing(str(self._directory)):
                self._writer = Writer(self._directory, keep, score, self._remover)
            self._manager = self._writer
            self._check_alike()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind, error, _) -> None:
        if kind and self._under_way and self._manager.is_saving_in_progress():
            # Which a store out of reach holds up. Perhaps nobody reads any more.
            with contextlib.suppress(OSError):
                print("ending once the checkpoint under way is written", flush=True)
        # The error that ends the run is the one to be told.
        with contextlib.suppress(Failure) if kind else contextlib.nullcontext():
            self.wait()
            for manager in {self._manager, self._reader}:
                manager.close()
            if self._writer:
                self._remover.try_again()
                self._remove_abandoned()

    def steps(self) -> list[int]:
        """Steps with a checkpoint, ascending."""
        return sorted(self._manager.all_steps())

    def holds(self, step: int) -> bool:
        """Whether the checkpoint is there now, whole."""
        return folders.is_whole(self._directory / str(step))

    def save(
        self, step: int, items: dict[str, Any], meta: dict, metrics: dict[str, float] | None
    ) -> None:
        """Begins to write `step`; an error of the write before is raised here.

        A checkpoint of the same step is replaced, once the new one is whole. Where a best one is
        kept, `meta` gets the metric that it is chosen by as "best".

        Raises:
          Failure: it cannot be written; those before it stand.
          RuntimeError: Orbax would not save.
        """
        self.wait()
        sums = {name: checksums(tree) for name, tree in items.items()}
        # A copy: Orbax writes it from a thread, when the caller may have counted on.
        meta = copy.deepcopy(meta) | {"step": step, "checksums": sums}
        score = (metrics or {}).get(self._best)
        if self._best:
            meta["best"] = score
        args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
        args[_META] = ocp.args.JsonSave(guarded(meta))
        with writing(str(self._directory)):
            replaces = step in self._manager.all_steps()
            if replaces:
                folder = folders.replaced(self._directory)
                self._in_one(lambda: folders.set_aside(self._directory / str(step), folder))
                self._writer.forget(step)
            accepted = self._manager.save(
                step,
                args=ocp.args.Composite(**args),
                metrics=None if score is None else {BEST: score},
            )
        self._under_way, self._replacing = True, replaces
        if not accepted:
            raise RuntimeError(
                f"Orbax refused to save step {step} in {self._directory}: it holds {self.steps()}"
            )

    def wait(self) -> None:
        """Returns when the last save is on disk.

        Raises:
          Failure: it could not be written; those before it stand.
        """
        with writing(str(self._directory)):
            # If this fails, what was to be replaced is put back by the next start.
            replacing, self._replacing, self._under_way = self._replacing, False, False
            self._manager.wait_until_finished()
        if replacing and jax.process_index() == 0:
            self._remover.clear(folders.replaced(self._directory))
        self._remover.say()

    def _in_one(self, change: Callable[[], None]) -> None:
        """Changes folders, in one process, and all go on when it is done, or raise."""
        failed = None
        try:
            if jax.process_index() == 0:
                change()
        except Exception as error:  # stores have many kinds
            failed = error
        trouble = self._first_message(failed and (str(failed) or type(failed).__name__))
        if trouble:
            raise failed or Failure(trouble)

    def _check_alike(self) -> None:
        """That all processes see the same checkpoints; from here on each counts for itself."""
        mine = str(self.steps())
        first = self._first_message(mine)
        differs = f"{self._directory} holds {first} for one process, {mine} for another"
        if trouble := self._first_message(differs if mine != first else None):
            raise Unreachable(f"{trouble}. The same command, for all processes, tries again")

    def _put_in_order(self) -> None:
        """Removes what was being removed when the run was killed, puts back what was replaced."""
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
          DamagedCheckpoint: it cannot be read, was altered or is of another step.
          Unreachable: the disk or the store does not answer; so `restore` and `abstract` too.
          BadInput: it was written by a newer version of this program.
        """
        where = f"{self._directory}/{step}: {_META}"
        with reading(where):
            # Without Orbax, whose threads ask for the scores of all steps at once.
            content = {**json.loads((self._directory / str(step) / _META_FILE).read_bytes())}
        meta = checked(content, where)
        if meta.get("step") != step:
            raise DamagedCheckpoint(f"{where} says that it is of step {meta.get('step')}")
        return meta

    def _score(self, step: int) -> float | None:
        try:
            return self.meta(step).get("best")
        except (DamagedCheckpoint, BadInput):
            return None

    def restore(self, step: int, abstract: dict[str, Any]) -> dict[str, Any]:
        """Reads items back into the shapes, dtypes and placements of `abstract`, and checks them.

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
          DamagedCheckpoint: there is no such item or it cannot be read.
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
        """The newest undamaged checkpoint and its meta; None if there is none at all.

        Damaged ones are reported; once an older one is read they are moved to `<workdir>/damaged`,
        out of the way of the steps that will be saved again. `check(meta)` may refuse one before
        its arrays are read.

        Raises:
          DamagedCheckpoint: there are checkpoints and none can be read; all stay where they are.
          Unreachable: it is not known whether the newest is damaged.
        """
        bad = []
        for step in reversed(self.steps()):
            try:
                meta = self._agreed(lambda step=step: self.meta(step))
                check(meta)
                items = self._agreed(lambda step=step: self._read(step, abstract))
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

    def _agreed(self, read: Callable[[], Any]) -> Any:
        """`read()`; a checkpoint that one process cannot reach, or finds damaged, is so for all."""
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
        self._in_one(lambda: report(f"moved to {folders.set_aside(old, folder)}"))
        self._writer.forget(step)

"""Prepares `<data_dir>/<name>/<version>` from a source: list it, write shards, move into place.

Until the dataset is complete, everything is in a folder next to the target, from which the same
command resumes.
"""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mixer import errors, storage
from mixer.data.sources import Source, image_files, records, tfds_vectors
from mixer.prepare import dedup, writing
from mixer.prepare.entry import Reader
from mixer.prepare.listing import Listing, fingerprint, list_source, some, status
from mixer.prepare.progress import Progress

_FORMAT = 1  # of metadata.json
SUMS, REMOVED = "SHA256SUMS", "removed.jsonl"
# Generous estimates of disk space on top of the images; a number is one of a label's.
_ENTRY_BYTES, _NUMBER_BYTES, _SHARD_BYTES = 400, 30, 2**18


@dataclasses.dataclass(frozen=True)
class Preparation:
    """What to prepare, and how.

    Attributes:
      source: as the user gave it; `reader` reads it.
      target: `<data_dir>/<name>/<version>`.
      split: for images whose split the source does not name.
      shard_bytes: approximate size of a shard.
      processes: how many write shards, each with one shard in memory; 1 means only this process.
      dedup_against: as the user gave it; `test_sets` are opened from it.
    """

    source: str
    reader: Reader
    target: Path
    split: str
    shard_bytes: int
    processes: int
    dedup_against: str
    test_sets: list[Source]

    @property
    def work(self) -> Path:
        """The folder where the dataset is made."""
        return self.target.parent / f"incomplete.{self.target.name}"

    def settings(self) -> dict[str, Any]:
        """The settings that must be equal for a later run to resume this one."""
        keys = ("source", "split", "shard_bytes", "dedup_against")
        return {key: getattr(self, key) for key in keys}


def prepare(job: Preparation, *, accept: Callable[[], None], stop: Callable[[], bool]) -> bool:
    """Makes the dataset, resumes making it, or finds it complete.

    Args:
      accept: called once, when all checks of the input have passed.
      stop: whether to stop after the shards that are being written.

    Returns:
      Whether it is complete.

    Raises:
      BadInput: the source is bad, the disk has too little space, or the target is another dataset;
        nothing is left behind.
      Failure: images can no longer be read, or the disk fills up.
    """
    if _is_made(job):
        accept()
        return True
    with _locked(job):
        if job.target.exists():
            raise errors.BadInput(f"{job.target} was just made by another process; try again")
        try:
            listing = _listed(job, stop)
        except OSError as error:
            raise errors.BadInput(f"{job.target} cannot be prepared: {error}") from None
        if listing is None:
            print("stopped before the first shard; the same command starts over", flush=True)
            return False
        accept()
        if (written := _write(job, listing, stop)) is None:
            return False
        with storage.naming(job.target):
            _finish(job, listing, written)
    return True


def summary(target: Path) -> dict[str, Any]:
    """metadata.json of a complete dataset."""
    return json.loads((target / "metadata.json").read_text())


def _is_made(job: Preparation) -> bool:
    if not job.target.exists():
        return False
    made = {}
    with contextlib.suppress(OSError, ValueError):
        made = summary(job.target)
    asked = job.settings() | {"fingerprint": fingerprint(job.reader.files())}
    differing = [key for key, value in asked.items() if made.get(key) != value]
    # The archives may have been removed since, to free disk space.
    differing += [f for f, *was in made.get("archives", ()) if status(f) not in (None, was)]
    if differing:
        raise errors.BadInput(
            f"{job.target} exists already, with other {' and '.join(differing)}: choose another "
            f"config.prepare.name, or move it away"
        )
    print(f"complete: {job.target} exists, from the same source; nothing to prepare", flush=True)
    shutil.rmtree(job.work, ignore_errors=True)
    return True


@contextlib.contextmanager
def _locked(job: Preparation) -> Iterator[None]:
    """Locks the work folder against other processes; removes it if there is no listing at exit."""
    above = [p for p in job.work.parents if not p.exists()]

    def busy() -> None:
        raise errors.BadInput(f"another process is preparing {job.target}; wait for it, or stop it")

    with contextlib.ExitStack() as stack:
        try:
            job.work.mkdir(parents=True, exist_ok=True)
            stack.enter_context(storage.lock(job.work / ".lock", busy))
        except OSError as error:
            raise errors.BadInput(
                f"{job.work} cannot be created: {error}. Set config.runtime.data_dir or "
                f"$TFDS_DATA_DIR"
            ) from None
        try:
            yield
        finally:
            if not (job.work / writing.LISTING).exists():
                shutil.rmtree(job.work, ignore_errors=True)
                with contextlib.suppress(OSError):
                    for folder in above:
                        folder.rmdir()


class _Stopped(Exception):
    pass


def _listed(job: Preparation, stop: Callable[[], bool]) -> Listing | None:
    """The listing of this preparation, made now or by an earlier run; None if stopped."""
    asked = job.settings() | {"fingerprint": fingerprint(job.reader.files())}
    file = job.work / writing.LISTING
    if file.exists():
        saved = json.loads(file.read_text())
        listing = Listing.from_json(saved.pop("plan"))
        changed = [key for key, value in asked.items() if saved.get(key) != value]
        changed += [path for path, *was in listing.archives if was != status(path)]
        if changed:
            raise errors.BadInput(
                f"{job.work} contains an unfinished preparation with other "
                f"{' and '.join(changed)}: run the same command with the same source to resume "
                f"it, or delete that folder to start over"
            )
        print(f"resuming {job.work}", flush=True)
        _check_room(job, listing)
        return listing
    for path in job.work.iterdir():
        if path.name != ".lock":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    lists = job.work / writing.LISTS
    lists.mkdir()

    def add(images: int, size: int) -> None:
        progress.add(images, size)
        if stop():
            raise _Stopped

    try:
        with Progress("listing") as progress:
            listing = list_source(job.reader, lists, job.shard_bytes, job.split, add)
        print(_summary(job, listing), flush=True)
        _check_room(job, listing)
        with Progress("hashing the test sets", sum(map(len, job.test_sets))) as progress:
            dedup.write(job.test_sets, job.work / writing.KNOWN, add)
    except _Stopped:
        return None
    with storage.write_whole(file) as stream:
        stream.write(json.dumps(asked | {"plan": dataclasses.asdict(listing)}).encode())
    return listing


def _summary(job: Preparation, listing: Listing) -> str:
    """One line that says how the source was interpreted."""
    splits = listing.splits.items()
    found = ", ".join(f"{split.examples:,} images in {name}" for name, split in splits)
    line = f"{job.source}: {found}; {listing.described()}"
    if job.reader.left_out:
        line += f"; left out: {image_files.counted(job.reader.left_out)}"
    if job.reader.unread:
        line += f"; not read: {', '.join(job.reader.unread)}"
    return line


def _check_room(job: Preparation, listing: Listing) -> None:
    free = shutil.disk_usage(job.work).free
    entry = _ENTRY_BYTES + _NUMBER_BYTES * len(listing.outputs)
    need = listing.bytes + entry * listing.examples + _SHARD_BYTES * len(listing.shards())
    for finished in (job.work / writing.SHARDS).glob("*"):
        need -= finished.stat().st_size
    if need > free:
        raise errors.BadInput(
            f"{job.target} needs {need / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free: "
            f"set config.runtime.data_dir or $TFDS_DATA_DIR to a larger disk"
        )


def _write(job: Preparation, listing: Listing, stop: Callable[[], bool]) -> list[dict] | None:
    """The results of all shards in order; None if stopped."""
    shutil.rmtree(job.work / writing.PARTS, ignore_errors=True)
    for folder in (writing.PARTS, writing.SHARDS, writing.DONE):
        (job.work / folder).mkdir(exist_ok=True)
    name, todo = job.target.parent.name, listing.shards()
    results, failures = [], []
    with Progress("writing", listing.examples) as progress:
        for result in writing.write_shards(job.work, name, todo, job.processes, stop):
            results.append(result)
            failures += result.get("failures", [])
            progress.add(result.get("records", 0) + len(result["removed"]), result.get("size", 0))
    if failures:
        raise errors.Failure(
            f"{len(failures):,} images cannot be read: {some(failures[:5], len(failures))}. "
            f"The finished shards are kept in {job.work}"
        )
    if len(results) < len(todo):
        count = len(list((job.work / writing.DONE).glob("*.json")))
        print(f"stopped: {count} of {len(todo)} shards are written; the same command resumes")
        return None
    return sorted(results, key=lambda result: (result["split"], result["number"]))


def _finish(job: Preparation, listing: Listing, written: list[dict]) -> None:
    """Adds the checksums and metadata to the shards, and renames the folder to the target."""
    folder = job.work / writing.SHARDS
    splits = {name: [w for w in written if w["split"] == name] for name in listing.splits}
    removed = [line for result in written for line in result["removed"]]
    found = sum(result["records"] for result in written) + len(removed)
    if found != listing.examples:
        raise errors.Failure(f"{folder} has {found:,} examples of {listing.examples:,}")
    if not all(sum(result["records"] for result in shards) for shards in splits.values()):
        raise errors.Failure(
            f"{folder}: every example of a split is in config.prepare.dedup_against"
        )
    sums = "".join(f"{result['sha256']}  {result['file']}\n" for result in written)
    (folder / SUMS).write_text(sums)
    if job.test_sets:
        (folder / REMOVED).write_text("".join(json.dumps(line) + "\n" for line in removed))
    saved = json.loads((job.work / writing.LISTING).read_text())
    saved.pop("plan")
    metadata = saved | {
        "format": _FORMAT,
        # Not the copies of streams and compressed tars, which are removed with the work folder.
        "archives": [a for a in listing.archives if not Path(a[0]).is_relative_to(job.work)],
        "splits": {
            name: {
                "examples": sum(result["records"] for result in shards),
                "removed": sum(len(result["removed"]) for result in shards),
                "shards": len(shards),
                "bytes": sum(result["size"] for result in shards),
            }
            for name, shards in splits.items()
        },
    }
    if listing.outputs:
        recorded = {"outputs": listing.outputs, "kind": listing.label_kind}
        metadata[tfds_vectors.RECORD] = {"label": recorded}
    else:
        metadata["classes"] = len(listing.classes)
    if listing.multi_label:
        metadata["max_labels"] = listing.max_labels
    description = f"Prepared from {job.source}."
    records.write_info(folder, job.target, writing.features(listing), splits, description, metadata)
    storage.put_in_place(folder, job.target)
    shutil.rmtree(job.work)

"""The run's output folder: config.json, results.json, and whether a run may resume there."""

import csv
import functools
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from mixer import errors, storage
from mixer.checkpoint import folders
from mixer.hosts import exchange, peers, sharing
from mixer.runs import resuming
from mixer.runs.keys import as_json, flat, used
from mixer.runs.results import Results

CONFIG, RESULTS = "config.json", "results.json"


def open_workdir(workdir: str) -> epath.Path:
    """The workdir as an absolute path (a URL stays one).

    Raises:
      BadInput: a URL that cannot be reached, or of another kind than gs://.
    """
    scheme = re.match(r"([a-z][a-z0-9+.-]*):/", workdir, re.IGNORECASE)
    if not scheme:
        return epath.Path(os.path.abspath(os.path.expanduser(workdir)))
    if not re.match(r"gs://[^/]", workdir):
        # Only on Google's store does Orbax leave no partial checkpoint behind.
        fix = f"{scheme[1]}: may be mounted as a folder"
        if scheme[1].lower() == "gs":
            fix = f"did you mean gs://{workdir[3:].lstrip('/') or 'BUCKET/FOLDER'}?"
        raise errors.BadInput(
            f"--workdir={workdir}: expected a folder or gs://BUCKET/FOLDER; {fix}"
        )
    try:
        path = epath.Path(workdir)
        path.exists()
    except ImportError as error:
        hint = "for gs://, pip install -r requirements-gcs.txt"
        raise errors.BadInput(f"--workdir={workdir}: {error}; {hint}") from None
    except Exception as error:
        reason = " ".join(str(error).split())
        raise errors.BadInput(f"--workdir={workdir} cannot be reached: {reason}") from None
    return path


def check(workdir: epath.Path, config: ConfigDict, *, complete: bool = False) -> None:
    """Refuses to mix two different runs in one folder; see `resuming.check_config`.

    Args:
      complete: whether the run has ended; then only keys that do not affect results may differ.

    Raises:
      BadInput: lists each key with its old and new value; or the folder is not a run's.
    """
    try:
        json.dumps(as_json(config), allow_nan=False)
    except ValueError:
        bad = [k for k, v in flat(as_json(config)).items() if v in (math.inf, -math.inf) or v != v]
        raise errors.BadInput(f"config.{bad[0]} is not finite") from None
    if not (workdir / CONFIG).exists():
        if workdir.exists() and not workdir.is_dir():
            raise errors.BadInput(f"--workdir={workdir} is a file: choose a folder")
        if workdir.exists() and any(p.name[0] != "." for p in workdir.iterdir()):
            raise errors.BadInput(
                f"--workdir={workdir} contains files but no {CONFIG}, so it is not a run's: choose "
                f"another folder"
            )
        return
    resuming.check_config(
        workdir,
        flat(_config_of(workdir)),
        flat(as_json(config)),
        complete=complete,
        done=folders.step_of(folders.newest(workdir / "checkpoints")),
    )


def is_complete(workdir: epath.Path) -> bool:
    """Whether the run in this folder has ended."""
    return read_json(workdir / RESULTS) is not None


def unfinished(output: str, config: ConfigDict) -> epath.Path | None:
    """The workdir of a run to start or resume; None, with a message, if the run is complete.

    Raises:
      BadInput: the folder cannot be reached, contains something else (see `check`), or is not the
        same for all processes.
    """
    workdir = open_workdir(output)

    def complete() -> bool:
        done = is_complete(workdir)
        check(workdir, config, complete=done)
        if done:
            print(f"complete: {workdir / RESULTS} is written; nothing to do")
        return done

    if exchange.from_first(complete):
        return None
    sharing.check(workdir)
    return workdir


def unless_complete(
    run: Callable[[ConfigDict, epath.Path, str], None],
) -> Callable[[ConfigDict, str, str], None]:
    """Decorates `run` to take the checked workdir, and to do nothing if it is complete."""

    @functools.wraps(run)
    def checked(config: ConfigDict, output: str, protocol: str) -> None:
        path = unfinished(output, config)
        if path is not None:
            run(config, path, protocol)

    return checked


def check_writable(workdir: epath.Path) -> None:
    """Refuses a local folder that cannot be written, before long work; leaves nothing behind.

    Raises:
      BadInput: with the reason.
    """
    if storage.is_remote(workdir) or peers.index():
        return
    try:
        tempfile.TemporaryFile(dir=sharing.nearest(workdir)).close()
    except OSError as error:
        raise errors.BadInput(f"--workdir={workdir} cannot be written: {error.strerror}") from None


def begin(workdir: epath.Path, config: ConfigDict) -> None:
    """Creates the workdir and writes config.json: the keys used by this and earlier sessions.

    By now the run must have read every key that it uses: see `keys.used`.

    Raises:
      BadInput: a key was given that the run does not use, or the folder cannot be written.
    """

    def write() -> None:
        file = workdir / CONFIG
        before = flat(json.loads(file.read_text())) if file.exists() else ()
        content = used(config, before)
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            write_json(file, content)
        except OSError as error:
            reason = error.strerror or error
            if storage.is_remote(workdir):
                reason = f"{reason}. Does the bucket exist, and may this account write to it?"
            raise errors.BadInput(f"--workdir={workdir} cannot be written: {reason}") from None

    exchange.from_first(write)


def check_there(workdir: epath.Path) -> None:
    """Checks that the workdir of a run in progress still exists; call it before writing there.

    Raises:
      Failure: it was removed; writing would create a folder with half a run.
      Unreadable: the disk or the store gives no answer.
    """
    if peers.index():
        return
    with storage.naming(workdir / CONFIG, storage.Unreadable):
        try:
            (workdir / CONFIG).read_bytes()  # exists() would take any disk error for a no
        except (FileNotFoundError, NotADirectoryError):
            raise errors.Failure(
                f"{workdir / CONFIG} is gone: the workdir was removed or renamed during the run. "
                f"Put it back, and the same command resumes from its last checkpoint"
            ) from None


def recorded(workdir: epath.Path) -> dict[str, Any]:
    """The keys in the run's config.json, {"a.b": value}, for those that show them."""
    return flat(read_json(workdir / CONFIG) or {})


def read_json(file: epath.Path) -> dict | None:
    """The content of a JSON file; None if it is missing or, with a message, if it is damaged."""
    try:
        return _parsed(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        print(f"{file} is damaged ({error}): treated as missing", flush=True)
        return None


def _config_of(workdir: epath.Path) -> dict:
    try:
        return _parsed(workdir / CONFIG)
    except ValueError as error:
        raise errors.BadInput(
            f"{workdir / CONFIG} is damaged ({error}): cannot tell which run this is. Choose "
            f"another --workdir; or, to resume this run, start the command in another workdir, "
            f"stop it once it trains, and copy that {CONFIG} here"
        ) from None


def _parsed(file: epath.Path) -> dict:
    content = json.loads(file.read_text())
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def write_json(path: epath.Path, content: dict) -> None:
    """Writes a JSON file atomically, on process 0 only.

    Raises:
      Failure: a number is not finite, or the disk refuses the file.
    """
    if peers.index():
        return
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    except ValueError:
        raise errors.Failure(f"{path}: a number is NaN or infinite: {content}") from None
    with storage.write_whole(path) as file:
        file.write(text.encode())


def write_csv(path: epath.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes one or more rows below a heading; the first row's keys are the columns.

    File names that are not UTF-8 keep their bytes.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with storage.write_whole(path) as file:
        file.write(text.getvalue().encode(errors="surrogateescape"))


def write_results(workdir: epath.Path, results: Results) -> None:
    """Writes `results.json`, which tells launchers that the run is complete.

    Raises:
      Failure: see `check_there` and `write_json`.
    """
    check_there(workdir)
    write_json(workdir / RESULTS, results.as_json())

import asyncio
import errno
import os
import sys

import aiohttp
import gcsfs.retry
import jax
import orbax.checkpoint as ocp
import pytest

from mixer.checkpoint.damage import DamagedCheckpoint, Unreachable, hush_orbax, reading, writing
from mixer.errors import Failure

GLOO = RuntimeError("Gloo AllGather failed: Read error [127.0.0.1]:48294: Connection reset by peer")


@pytest.mark.parametrize(
    ("number", "fixed"),
    [
        (errno.ENOSPC, "there is room"),
        (errno.EDQUOT, "there is room"),
        (errno.EIO, "that is fixed"),
        (errno.EROFS, "that is fixed"),
    ],
)
@pytest.mark.parametrize("text", ["", "UNKNOWN: Error writing 'a/0' in OCDBT database: {}"])
def test_the_message_has_the_systems_reason(number, fixed, text):
    words = os.strerror(number)
    error = ValueError(text.format(words)) if text else OSError(number, words, "/w/1/params")
    with pytest.raises(Failure) as failure, writing("/w"):
        raise error
    assert str(failure.value) == (
        f"a checkpoint in /w could not be written: {words}. Earlier checkpoints are intact; "
        f"once {fixed}, the same command resumes the run"
    )


def test_a_lost_process_is_not_reported_as_a_disk_error(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for error in (GLOO, TimeoutError("barrier"), ConnectionResetError(104, "reset")):
        with pytest.raises(type(error)), writing("/w"):
            raise error
    for error in (OSError(errno.EIO, "x"), ValueError("cannot write gs://b/w: HTTP 503")):
        with pytest.raises(Failure, match="could not be written"), writing("gs://b/w"):
            raise error


def wrapped(text):
    """TensorStore's error as Orbax wraps it."""
    try:
        raise Exception("Encountered error while reading array") from ValueError(text)
    except Exception as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(n, os.strerror(n)) for n in (errno.ESTALE, errno.EMFILE, errno.EIO)),
        PermissionError(errno.EACCES, "Permission denied"),
        ConnectionResetError(),
        TimeoutError(),
        OSError("Forbidden: https://storage.googleapis.com/b/o"),
        gcsfs.retry.HttpError({"code": 503, "message": "Service Unavailable"}),
        aiohttp.ServerDisconnectedError(),
        ValueError("UNAVAILABLE: Error opening zarr driver: CURL error: could not resolve host"),
        wrapped("ABORTED: All 32 retry attempts failed: 503"),
        wrapped("UNKNOWN: Error reading x/0: Stale file handle [os_error_code='116']"),
    ],
    ids=repr,
)
def test_a_checkpoint_on_a_disk_or_store_that_does_not_answer_is_unreachable(error):
    match = "^/w/2: meta cannot be reached now: .+ Run the same command again"
    with pytest.raises(Unreachable, match=match), reading("/w/2: meta"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("b/run/checkpoints/2/meta/metadata"),
        NotADirectoryError(errno.ENOTDIR, "Not a directory"),
        KeyError("tree"),
        ValueError("NOT_FOUND: Error reading x/0: No such file or directory"),
        wrapped("DATA_LOSS: Error decoding x"),
    ],
    ids=repr,
)
def test_missing_or_altered_content_is_damage(error):
    damaged = pytest.raises(DamagedCheckpoint, match="^/w/2: meta cannot be read: ")
    with damaged, reading("/w/2: meta"):
        raise error


def test_the_damaged_array_is_named():
    text = 'FAILED_PRECONDITION: Error reading "dense.kernel/1.0" in OCDBT database: Truncated'
    damaged = pytest.raises(DamagedCheckpoint, match="array dense/kernel: FAILED_PRECONDITION")
    with damaged, reading("/w/2: params"):
        raise wrapped(text)


@pytest.mark.parametrize("shown", [False, True])
def test_only_complaints_of_orbaxs_abandoned_readers_are_hidden(shown, capfd, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)
    hush_orbax()
    source = """async def read(array):
    try:
        await array
    except BaseException:
        raise Exception("Encountered error while reading array")
"""
    place, functions = __file__ if shown else ocp.type_handlers.__file__, {}
    exec(compile(source, place, "exec"), functions)
    reader = functions["read"](asyncio.sleep(0))
    reader.send(None)
    del reader  # nothing awaits it any more
    assert ("Encountered error" in capfd.readouterr().err) == shown

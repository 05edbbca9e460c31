import asyncio
import errno
import os
import sys

import jax
import orbax.checkpoint as ocp
import pytest

from mixer.checkpoint.damage import hush_orbax, writing
from mixer.errors import Failure

GLOO = RuntimeError("Gloo AllGather failed: Read error [127.0.0.1]:48294: Connection reset by peer")


@pytest.mark.parametrize(
    ("number", "mended"),
    [
        (errno.ENOSPC, "there is room"),
        (errno.EDQUOT, "there is room"),
        (errno.EIO, "that is mended"),
        (errno.EROFS, "that is mended"),
    ],
)
@pytest.mark.parametrize("text", ["", "UNKNOWN: Error writing 'a/0' in OCDBT database: {}"])
def test_what_the_disk_says_is_said(number, mended, text):
    words = os.strerror(number)
    error = ValueError(text.format(words)) if text else OSError(number, words, "/w/1/params")
    with pytest.raises(Failure) as failure, writing("/w"):
        raise error
    assert str(failure.value) == (
        f"a checkpoint in /w could not be written: {words}. Those before it stand; when {mended} "
        f"the same command goes on"
    )


def test_another_process_that_is_lost_is_not_the_disk(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for error in (GLOO, TimeoutError("barrier"), ConnectionResetError(104, "reset")):
        with pytest.raises(type(error)), writing("/w"):
            raise error
    for error in (OSError(errno.EIO, "x"), ValueError("cannot write gs://b/w: HTTP 503")):
        with pytest.raises(Failure, match="could not be written"), writing("gs://b/w"):
            raise error


@pytest.mark.parametrize("shown", [False, True])
def test_what_orbaxs_readers_leave_behind_is_not_shown_and_all_else_is(shown, capfd, monkeypatch):
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
    del reader  # nobody waits for it any more
    assert ("Encountered error" in capfd.readouterr().err) == shown

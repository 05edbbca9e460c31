import errno
import os

import jax
import pytest

from mixer.checkpoint.damage import writing
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

"""Decisions of process 0 for all processes. test_distributed.py starts real processes."""

import gcsfs.retry
import pytest

from mixer import storage
from mixer.errors import BadInput, Failure
from mixer.hosts import exchange, peers


@pytest.mark.parametrize(
    ("error", "elsewhere"),
    [
        (BadInput("no such key"), BadInput),
        (Failure("no room"), Failure),
        (storage.Unreadable(5, "Input/output error", "file"), Failure),
        (OSError(5, "Input/output error"), Failure),
        (gcsfs.retry.HttpError({"code": 503, "message": "Service Unavailable"}), Failure),
    ],
)
def test_an_error_in_process_0_is_raised_in_all_processes(error, elsewhere, monkeypatch):
    def fail():
        raise error

    told = []
    monkeypatch.setattr(peers, "count", lambda: 2)
    monkeypatch.setattr(peers, "index", lambda: 0)
    monkeypatch.setattr(exchange, "gather", lambda text: told.append(text) or [text])
    with pytest.raises(type(error)) as raised:
        exchange.from_first(fail)
    assert raised.value is error

    monkeypatch.setattr(peers, "index", lambda: 1)
    monkeypatch.setattr(exchange, "gather", lambda text: told)
    with pytest.raises(elsewhere) as raised:
        exchange.from_first(lambda: pytest.fail("it is the first that decides"))
    assert type(raised.value) is elsewhere and str(raised.value) == str(error)

"""Whether an error comes from an object store's client or from our own code."""

import aiohttp
import gcsfs.retry
import pytest
from google.auth import exceptions
from google.protobuf import message

from mixer.storage import is_of_client


@pytest.mark.parametrize(
    "error",
    [
        gcsfs.retry.HttpError({"code": 503, "message": "Service Unavailable"}),
        aiohttp.ServerDisconnectedError(),
        exceptions.DefaultCredentialsError("no credentials"),
    ],
)
def test_client_errors_are_recognised(error):
    assert is_of_client(error)


@pytest.mark.parametrize("error", [ValueError("x"), message.DecodeError("x"), KeyError("gcsfs")])
def test_other_errors_are_not(error):
    assert not is_of_client(error)

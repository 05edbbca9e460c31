"""Google Cloud Storage, read over HTTP: byte ranges and listings. Errors are retried.

Blocks of shards are read from here, which other clients do more slowly or cannot do. Against the
stand-in of the tests with 20 ms an answer, 8 threads, on two busy CPU cores: 14 MB at a time took
3.5 ms of processor time a request and came at 200 to 245 MB/s, by gcsfs 11 ms and 27 to 34 MB/s;
records of 110 kB came at 110 to 123 a second, by gcsfs at 47. TensorStore took as little processor
time as this, but lists names alone: neither sizes nor the checksums that copies are compared with.

Without the package google-auth, requests are anonymous. As in Google's own clients,
$CLOUD_STORAGE_EMULATOR_ENDPOINT names another server, which is asked without credentials.
"""

import contextlib
import functools
import http.client
import json
import os
import random
import re
import threading
import time
import urllib.parse
from typing import NamedTuple

from mixer import errors

_SCHEME = "gs://"
_ATTEMPTS = 8
_FIRST_PAUSE = 0.1  # seconds; doubled after each failure: 12 s in all
_TIMEOUT = 20  # seconds without a byte
_PASSING = (408, 429, 500, 502, 503, 504)  # statuses that may be other the next time
_idle: list[http.client.HTTPConnection] = []  # open ones, for whichever thread asks next


class StoreError(errors.Failure):
    """The store does not give what was asked for; names URL, status and what to do.

    Attributes:
      status: of the last answer; None without one.
    """

    def __init__(self, message: str, status: int | None):
        super().__init__(message)
        self.status = status


class FileInfo(NamedTuple):
    """A file: where it lies, its bytes, and the checksums (base64) that a store knows of it."""

    path: str
    size: int
    md5: str | None = None
    crc32c: str | None = None


def read(url: str, start: int = 0, stop: int | None = None) -> bytes:
    """An object's bytes from `start` to before `stop` (None: to its end), with one request.

    Raises:
      BadInput: no gs:// URL.
      StoreError: after the retries, or at once if repeating is no use. So do the others here.
    """
    if not start and stop is None:
        return _get(url, _media(url), {})[0]
    wanted = f"{start}-{'' if stop is None else stop - 1}"
    content, headers = _get(url, _media(url), {"Range": f"bytes={wanted}"})
    if not re.match(rf"bytes {wanted}\b", headers.get("Content-Range", "")):
        raise StoreError(f"{url}: asked for bytes {wanted}, got others: is it cut off?", None)
    return content


def read_end(url: str, size: int) -> tuple[bytes, int]:
    """The last `size` bytes of an object (all, if it has fewer), and how many it has."""
    content, headers = _get(url, _media(url), {"Range": f"bytes=-{size}"})
    return content, int(headers.get("Content-Range", f"/{len(content)}").rpartition("/")[2])


def listing(url: str) -> list[FileInfo]:
    """The objects whose URLs begin with `url`."""
    bucket, prefix = _split(url)
    query = {"prefix": prefix, "fields": "nextPageToken,items(name,size,md5Hash,crc32c)"}
    found = []
    while True:
        path = f"/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(query)}"
        page = json.loads(_get(url, path, {})[0])
        found += [
            FileInfo(
                f"{_SCHEME}{bucket}/{item['name']}",
                int(item["size"]),
                item.get("md5Hash"),
                item.get("crc32c"),
            )
            for item in page.get("items", ())
        ]
        if not (token := page.get("nextPageToken")):
            return found
        query["pageToken"] = token


def _split(url: str) -> tuple[str, str]:
    if not url.startswith(_SCHEME):
        raise errors.BadInput(f"{url}: expected a path, or gs://BUCKET/PATH")
    bucket, _, name = url.removeprefix(_SCHEME).partition("/")
    return bucket, name


def _media(url: str) -> str:
    bucket, name = _split(url)
    return f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}?alt=media"


def _get(url: str, path: str, headers: dict[str, str]) -> tuple[bytes, http.client.HTTPMessage]:
    """One GET, repeated while there is hope."""
    pause = _FIRST_PAUSE
    for attempt in range(1, _ATTEMPTS + 1):
        status, said = None, ""
        connection = _connect()
        try:
            connection.request("GET", path, headers=headers | _authorization())
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
            _idle.append(connection)
            if status in (200, 206):
                return content, answer.headers
            said = f"status {status} {answer.reason}"
            if status not in _PASSING:
                break
        except (OSError, http.client.HTTPException) as error:
            # Also an answer that ends too early, and a connection that the server has closed.
            said = f"{type(error).__name__}: {error}"
            connection.close()
            close()  # the others are as old
        if attempt < _ATTEMPTS:
            # Not all at the same moment: many threads and hosts meet the same outage.
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause *= 2
    raise StoreError(
        f"{url}: {said} from {_endpoint()}, after {attempt} "
        f"attempt{'s' if attempt > 1 else ''}. {_what_to_do(status)}",
        status,
    )


def _what_to_do(status: int | None) -> str:
    if status in (401, 403):
        who = "with credentials" if _credentials() else "without credentials"
        return (
            f"It was asked {who}: for a bucket that is not public, pip install -r "
            f"requirements-gcs.txt, and give the VM's service account (or yourself: gcloud auth "
            f"application-default login) the role Storage Object Viewer"
        )
    if status == 404:
        return "Check bucket and name"
    return "Run the same command again when the store answers, or read a copy (docs/data.md)"


def _endpoint() -> str:
    return os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT") or "https://storage.googleapis.com"


def _connect() -> http.client.HTTPConnection:
    with contextlib.suppress(IndexError):
        return _idle.pop()
    parts = urllib.parse.urlsplit(_endpoint())
    secure = parts.scheme == "https"
    make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    return make(parts.netloc, timeout=_TIMEOUT)


def close() -> None:
    """Closes the connections that no thread uses."""
    with contextlib.suppress(IndexError):
        while True:
            _idle.pop().close()


_refreshing = threading.Lock()


@functools.cache
def _credentials():
    """google-auth's default ones; None for anonymous requests."""
    if os.environ.get("CLOUD_STORAGE_EMULATOR_ENDPOINT"):
        return None
    try:
        import google.auth
    except ImportError:
        return None
    try:
        scope = "https://www.googleapis.com/auth/devstorage.read_only"
        return google.auth.default(scopes=[scope])[0]
    except google.auth.exceptions.DefaultCredentialsError:
        return None


def _authorization() -> dict[str, str]:
    with _refreshing:
        credentials = _credentials()
        if credentials is None:
            return {}
        if not credentials.valid:
            from google.auth import exceptions
            from google.auth.transport import requests

            try:
                credentials.refresh(requests.Request())
            except exceptions.GoogleAuthError as error:
                raise StoreError(
                    f"Google's credentials cannot be renewed: {error}. Yours: gcloud auth "
                    f"application-default login",
                    None,
                ) from None
        return {"Authorization": f"Bearer {credentials.token}"}

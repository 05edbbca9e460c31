"""Downloads files into a cache: a URL is fetched once, and its SHA-256 checked at every use.

The cache, in `storage.cache_folder`, mirrors host and path. Next to each file is `<file>.sha256`,
in the format of `sha256sum`: the digest at the first use.
Hub files are in the Hub's own cache; this one has only their digests and files put here by hand.
"""

import base64
import contextlib
import dataclasses
import hashlib
import http.client
import os
import re
import shlex
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import tqdm

from mixer import errors, storage
from mixer.weights import formats, hf

SCHEMES = ("gs://", "hf://", "https://", "http://")
_BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A cached file and its SHA-256 in hexadecimal digits."""

    file: Path
    sha256: str


class _Interrupted(Exception):
    """The transfer ended early; another attempt may help."""


def url_of(address: str) -> str:
    """The public URL of gs://BUCKET/PATH or hf://ORG/REPO[/FILE][@REVISION], or an http(s) URL.

    Buckets are read without a login. Characters that a URL may not contain, such as spaces, are
    quoted.

    Raises:
      BadInput: hf:// without a repository, or an invalid address.
    """
    scheme, _, place = address.partition("://")
    if scheme == "gs":
        return f"https://storage.googleapis.com/{quote(place)}"
    if scheme == "hf":
        repo, name, revision = hf.parse(address)
        return f"https://huggingface.co/{quote(f'{repo}/resolve/{revision}/{name}')}"
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 reading the property validates it
        host = parts.netloc.encode("ascii").decode()
    except ValueError:
        raise errors.BadInput(
            f"{without_login(address)!r}: expected https://HOST/PATH/FILE"
        ) from None
    path, query = (quote(part, safe="/%!$&'()*+,;=:@~?") for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, host, path, query, ""))


def without_login(address: str) -> str:
    """The address without USER:PASSWORD@, for everything that is printed or written."""
    return re.sub(r"(://)[^/?#]*@", r"\1", address)


def _login(url: str) -> dict[str, str]:
    """The header with a URL's user and password; empty if it has none."""
    user, at, _ = urlsplit(url).netloc.rpartition("@")
    code = base64.b64encode(unquote(user).encode()).decode()
    return {"Authorization": f"Basic {code}"} if at else {}


def cache_path(url: str) -> Path:
    """The path of this URL's file in the cache, whether or not it is there.

    Raises:
      BadInput: the URL does not name a file.
    """
    parts = urlsplit(without_login(url))
    names = [parts.netloc, *unquote(parts.path).removeprefix("/").split("/")]
    strange = any(name in ("", ".", "..") or not name.isprintable() for name in names)
    if len(names) < 2 or strange:
        raise errors.BadInput(f"{without_login(url)!r}: expected https://HOST/PATH/FILE")
    if parts.query:  # it may select the content
        names.insert(-1, hashlib.sha256(parts.query.encode()).hexdigest()[:16])
    return storage.cache_folder().joinpath(*names)


def fetch(address: str, *, timeout: float = 30.0, attempts: int = 4, pause: float = 1.0) -> Fetched:
    """Returns the cached file of an address, downloading it if it is not cached yet.

    It appears complete or not at all. An interrupted download is resumed. If several processes want
    the same file, one downloads it and the others wait.

    Args:
      address: gs://, hf://, https:// or http://.
      timeout: seconds without data after which a connection is dropped.
      attempts: how many consecutive attempts may make no progress.
      pause: seconds before the second attempt, doubled for each further one.

    Raises:
      BadInput: the file does not exist, its SHA-256 is not the recorded one, or the cache cannot be
        written.
      Failure: no connection; the message says how to put the file there by hand.
    """
    url = url_of(address)
    file = cache_path(url)
    try:
        if file.exists():
            fix = "Delete it to fetch it again"
            return Fetched(file, _checked(file, str(file), _beside(file, ".sha256"), fix))
        file.parent.mkdir(parents=True, exist_ok=True)
        if address.startswith("hf://"):
            return _from_hub(address, url, file)
        waiting = f"{file.name}: another process is fetching it; waiting"
        with storage.lock(_beside(file, ".lock"), lambda: print(waiting, flush=True)):
            if file.exists():  # another process fetched it meanwhile
                return fetch(address)
            return Fetched(file, _fetch(url, file, timeout, attempts, pause))
    except BrokenPipeError:  # from printing our own messages: main.py handles it
        raise
    except OSError as error:
        raise errors.BadInput(
            f"the cache of downloads cannot be used: {error}. Set $MIXER_CACHE to another folder"
        ) from None


def _from_hub(address: str, url: str, file: Path) -> Fetched:
    try:
        cached = hf.fetch(address)
    except hf.Unreachable as error:
        fix = f"Run the same command again, {_by_hand(url, file)}"
        raise errors.Failure(f"cannot fetch {address}: {error}. {fix}") from None
    record = _beside(file, ".sha256")
    fix = f"Delete {cached.resolve()} to fetch it again, or {record} if the new content is wanted"
    return Fetched(cached, _checked(cached, address, record, fix))


def _by_hand(url: str, file: Path) -> str:
    curl = shlex.join(["curl", "-fL", "-o", file.name, url])
    return f"or, on a machine with a connection, run {curl} and put the file at {file}"


def _fetch(url: str, file: Path, timeout: float, attempts: int, pause: float) -> str:
    part, record = _beside(file, ".part"), _beside(file, ".sha256")
    login, url = _login(url), without_login(url)
    print(f"fetching {url} to {file}", flush=True)
    furthest = failures = 0
    while True:
        try:
            _transfer(url, login, part, timeout)
            break
        except _Interrupted as error:
            reached = part.stat().st_size if part.exists() else 0
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if failures == attempts:
                raise errors.Failure(
                    f"cannot fetch {url}: {error}. Run the same command again to resume, "
                    f"{_by_hand(url, file)}"
                ) from None
            wait = pause * 2 ** (failures - 1)
            print(f"{file.name}: {error}; trying again in {wait:g} s", flush=True)
            time.sleep(wait)
    _beside(part, ".etag").unlink(missing_ok=True)
    try:
        digest = _checked(part, url, record, f"Delete {record} if the new content is wanted")
    except errors.BadInput:
        part.unlink()
        raise
    storage.put_in_place(part, file)
    return digest


def _transfer(url: str, login: dict[str, str], part: Path, timeout: float) -> None:
    """Fetches the rest of `part`, or all of it if the file has changed or has no strong ETag."""
    etag = _beside(part, ".etag")
    size = part.stat().st_size if part.exists() and etag.exists() else 0
    headers = {"Range": f"bytes={size}-", "If-Range": etag.read_text()} if size else {}
    request = urllib.request.Request(url, headers=headers)
    for name, value in login.items():
        request.add_unredirected_header(name, value)  # not sent to another host
    with _network(timeout, url, part):
        response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    with response:
        length = response.headers.get("Content-Length")
        if length is not None and not re.fullmatch("[0-9]+", length):
            raise _Interrupted(f"the server announced an invalid length of {length!r} bytes")
        if response.status != 206:
            size = 0
            etag.unlink(missing_ok=True)
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {size}-"):
            etag.unlink()
            raise _Interrupted("the server sent a different part than requested")
        with open(part, "ab" if size else "wb", opener=_unfollowed) as file:
            # Recorded only now that the bytes of any other version are gone.
            if (name := response.headers.get("ETag", "")).startswith('"'):
                with storage.write_whole(etag) as record:
                    record.write(name.encode())
            total = None if length is None else size + int(length)
            hidden = not sys.stderr.isatty()
            bar = tqdm.tqdm(total=total, initial=size, unit="B", unit_scale=True, disable=hidden)
            with bar:
                while total is None or size < total:
                    with _network(timeout, url, part):
                        block = response.read1(_BLOCK)
                    if not block:
                        break
                    file.write(block)
                    size += len(block)
                    bar.update(len(block))
    if total is not None and size < total:
        raise _Interrupted(f"the connection was cut after {size:,} of {total:,} bytes")
    if size == 0:
        raise _Interrupted("the server sent nothing")
    kind = Path(part.stem).suffix.lower()
    if total is None and not formats.has_its_end(part, kind):
        etag.unlink(missing_ok=True)  # start over
        raise _Interrupted(
            f"the server did not announce a length, and these {size:,} bytes are not a complete "
            f"{kind}"
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http or https only, and from https only to https."""

    def redirect_request(self, request, response, code, message, headers, url):
        allowed = ("https",) if request.type == "https" else ("http", "https")
        scheme = urlsplit(url).scheme
        if scheme not in allowed:
            raise errors.BadInput(
                f"{request.full_url} redirects to {scheme}://: expected {' or '.join(allowed)}"
            )
        return super().redirect_request(request, response, code, message, headers, url)


def _unfollowed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


@contextlib.contextmanager
def _network(timeout: float, url: str, part: Path) -> Iterator[None]:
    """Turns a network error into `_Interrupted`, or into `BadInput` if a retry cannot help."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is as long as the file, or longer: start over
            part.unlink(missing_ok=True)
        elif error.code < 500 and error.code not in (408, 429):
            raise errors.BadInput(
                f"{url} cannot be fetched (HTTP {error.code}): check the name; if it needs a "
                f"login, download it by hand and give the local file"
            ) from None
        raise _Interrupted(f"HTTP {error.code}") from None
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            raise _Interrupted(f"the connection stalled: no data for {timeout:g} s") from None
        raise _Interrupted(str(reason) or type(reason).__name__) from None


def _checked(path: Path, name: str, record: Path, fix: str) -> str:
    """The SHA-256 of `path`: recorded at the first use, later refused if it differs."""
    digest = storage.sha256(path)
    if not record.exists():
        with storage.write_whole(record) as file:
            file.write(f"{digest}  {record.name.removesuffix('.sha256')}\n".encode())
    known = record.read_text().partition(" ")[0]
    if digest != known:
        raise errors.BadInput(
            f"{name} has changed: sha256 {digest}, at its first use {known} ({record}). {fix}"
        )
    return digest


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)

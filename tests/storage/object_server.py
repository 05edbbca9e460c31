"""A local stand-in for Google Cloud Storage: one bucket, and only the calls that a reader makes.

GET /storage/v1/b/BUCKET/o/NAME?alt=media   with or without a Range
GET /storage/v1/b/BUCKET/o?prefix=...       in pages
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import time
import urllib.parse
from pathlib import Path

from mixer.storage import bucket

BUCKET = "bucket"


class ObjectServer(http.server.ThreadingHTTPServer):
    """Serves the files below a folder as gs://bucket/...

    Attributes:
      requests: (the object or listing, the Range header or None), in order of arrival.
      latency: seconds before each answer.
      fail: request number (from 0) -> None, "status" (503), "cut" (half of the content, then the
        connection ends), "damage" (bytes changed), "hang" or the number of a status.
      md5: whether listings include MD5 sums; composite objects have none.
      public: False answers every request with 401.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, root: Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.latency, self.md5, self.public = root, 0.0, True, True
        self.fail = lambda number: None
        self.requests: list[tuple[str, str | None]] = []
        self.page = 3  # items per page of a listing: few, so that there are several pages
        self.lock = threading.Lock()
        self.ended = threading.Event()

    @property
    def endpoint(self) -> str:
        """For $CLOUD_STORAGE_EMULATOR_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, text: str = "") -> int:
        """How many requests were made for objects whose names contain `text`."""
        with self.lock:
            return sum(text in name for name, _ in self.requests)


@contextlib.contextmanager
def serve(root: Path):
    """A running `ObjectServer`, while the context is open."""
    server = ObjectServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def as_google(root: Path, monkeypatch):
    """Like `serve`, and `mixer.storage` uses it instead of Google's servers, with quick retries."""
    with serve(root) as server:
        monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", server.endpoint)
        monkeypatch.setattr(bucket, "_FIRST_PAUSE", 0.001)
        yield server
        bucket.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ObjectServer

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        matched = re.fullmatch(f"/storage/v1/b/{BUCKET}/o(?:/([^/]*))?", url.path)
        name = urllib.parse.unquote((matched and matched[1]) or "")
        asked = self.headers.get("Range")
        with server.lock:
            number = len(server.requests)
            server.requests.append((name or f"listing {query.get('prefix')}", asked))
        time.sleep(server.latency)
        fault = server.fail(number)
        if fault == "hang":
            server.ended.wait()
            return self._end()
        if isinstance(fault, int) or fault == "status":
            return self._answer(503 if fault == "status" else fault, b"")
        if not server.public:
            return self._answer(401, b"")
        if not matched:
            return self._answer(404, b"")
        if not name:
            return self._answer(200, self._listing(query))
        path = server.root / name
        if query.get("alt") != "media" or not path.is_file():
            return self._answer(404, b"")
        self._content(path, asked, fault)

    def _listing(self, query: dict[str, str]) -> bytes:
        root = self.server.root
        names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        names = [name for name in names if name.startswith(query.get("prefix", ""))]
        start = int(query.get("pageToken", 0))
        answer = {"items": [self._item(name) for name in names[start : start + self.server.page]]}
        if start + self.server.page < len(names):
            answer["nextPageToken"] = str(start + self.server.page)
        return json.dumps(answer if answer["items"] else {}).encode()

    def _item(self, name: str) -> dict[str, str]:
        path = self.server.root / name
        item = {"name": name, "size": str(path.stat().st_size)}
        if self.server.md5:
            digest = hashlib.md5(path.read_bytes()).digest()
            item["md5Hash"] = base64.b64encode(digest).decode()
        return item

    def _content(self, path: Path, asked: str | None, fault: str | None) -> None:
        size = path.stat().st_size
        first, last = 0, size - 1
        if asked:
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            first = int(begin) if begin else max(0, size - int(end))
            last = min(int(end), last) if begin and end else last
        with path.open("rb") as file:
            file.seek(first)
            content = file.read(last - first + 1)
        if fault == "damage":
            middle = len(content) // 2
            content = content[:middle] + bytes(64) + content[middle + 64 :]
        where = {"Content-Range": f"bytes {first}-{last}/{size}"} if asked else {}
        self._answer(206 if asked else 200, content, where, cut=fault == "cut")

    def _answer(self, status: int, content: bytes, headers=None, cut=False) -> None:
        with contextlib.suppress(ConnectionError):  # the client may disconnect early
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self._end()

    def _end(self) -> None:
        self.close_connection = True

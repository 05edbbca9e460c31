"""A local web server that misbehaves on request."""

import contextlib
import http.server
import threading
import time


class StandIn(http.server.ThreadingHTTPServer):
    """Serves `content` at any path, with ranges.

    Attributes:
      cuts: for each of the next answers, the number of bytes after which the connection closes.
      stalls: for each of the next answers, the seconds of silence in its middle.
      statuses: for each of the next requests, an error status to answer with.
      etag: of the content; "" leaves it out.
      ranges: whether Range headers are understood.
      moved: {path: URL that it redirects to}.
      length, range: wrong values to send for them, if set; length=False sends no length.
      requests: (path, Range header) of each request.
      logins: the Authorization header of each.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.etag, self.ranges = content, '"first"', True
        self.cuts, self.stalls, self.statuses, self.moved, self.requests = [], [], [], {}, []
        self.length, self.range, self.logins = None, None, []

    def url(self, path="weights.npz"):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        server.logins.append(self.headers.get("Authorization"))
        if server.statuses:
            return self.send_error(server.statuses.pop(0))
        if self.path in server.moved:
            self.send_response(302)
            self.send_header("Location", server.moved[self.path])
            return self.end_headers()
        content, start = server.content, 0
        fresh = self.headers.get("If-Range", server.etag) == server.etag
        if asked and server.ranges and fresh:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            sent = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", server.range or sent)
        else:
            self.send_response(200)
        length = str(len(content) - start) if server.length is None else server.length
        if length is not False:
            self.send_header("Content-Length", length)
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        stop = start + server.cuts.pop(0) if server.cuts else len(content)
        middle = (start + stop) // 2
        with contextlib.suppress(ConnectionError):  # the client has disconnected
            self.wfile.write(content[start:middle])
            time.sleep(server.stalls.pop(0) if server.stalls else 0)
            self.wfile.write(content[middle:stop])


def serve(content):
    """A running `StandIn`."""
    return running(StandIn(content))


@contextlib.contextmanager
def running(server):
    """Runs the server in its own thread."""
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()

"""A local stand-in for the Hugging Face Hub: repositories with branches, gates and errors."""

import base64
import hashlib
import http.server
import json
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants, hf_api
from stand_in import running


class HubStandIn(http.server.ThreadingHTTPServer):
    """Answers requests for files (HEAD, GET, listings) and the POSTs that upload some.

    Attributes:
      repos: {"org/name": {revision: {file: content}}}.
      gated: names of repositories that need the token.
      private: names of repositories that were created as private ones.
      token: of a user who may read and write everything.
      status: an error status for every answer; None for normal answers.
      requests: (method, path, Authorization header) of each request.
    """

    daemon_threads = True

    def __init__(self, repos):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos, self.gated, self.token, self.status = repos, set(), "hf_good", None
        self.private = set()
        self.requests = []

    @property
    def url(self):
        """For HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def do_POST(self):
        server, path = self.server, unquote(urlsplit(self.path).path).strip("/")
        content = self.rfile.read(int(self.headers["Content-Length"]))
        login = self.headers.get("Authorization")
        server.requests.append((self.command, path, login))
        if server.status:
            return self._send(server.status)
        if path == "api/validate-yaml":
            return self._send_json({"errors": [], "warnings": []})
        if login != f"Bearer {server.token}":
            return self._send(403 if login else 401)
        if path == "api/repos/create":
            return self._create(json.loads(content))
        org, name, kind, branch = path.removeprefix("api/models/").split("/", 3)
        repo = server.repos.get(f"{org}/{name}")
        if repo is None:
            return self._send(404, "RepoNotFound")
        if kind == "branch":
            known = branch in repo
            repo.setdefault(branch, dict(repo["main"]))
            return self._send(409 if known else 200)
        if kind == "preupload":
            asked = [file["path"] for file in json.loads(content)["files"]]
            modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]
            return self._send_json({"files": modes})
        for line in map(json.loads, content.splitlines()):  # kind == "commit"
            if line["key"] == "file":
                file = line["value"]
                repo[branch][file["path"]] = base64.b64decode(file["content"])
        commit = commit_of(repo[branch])
        url = f"{server.url}/{org}/{name}/commit/{commit}"
        self._send_json({"commitUrl": url, "commitOid": commit})

    def _create(self, asked):
        repo = f"{asked['organization']}/{asked['name']}"
        known = repo in self.server.repos
        if not known:
            self.server.repos[repo] = {"main": {}}
            private = asked.get("private") or asked.get("visibility") == "private"
            self.server.private |= {repo} if private else set()
        url = {"url": f"{self.server.url}/{repo}", "id": repo, "name": repo}
        self._send(409 if known else 200, None, json.dumps(url).encode())

    def _answer(self):
        server, path = self.server, unquote(urlsplit(self.path).path).strip("/")
        login = self.headers.get("Authorization")
        server.requests.append((self.command, path, login))
        if server.status:
            return self._send(server.status)
        for prefix in ("api/models/", "api/datasets/", "datasets/"):
            path = path.removeprefix(prefix)
        org, name, kind, *rest = [*path.split("/", 3), ""]
        repo, rest = f"{org}/{name}", "".join(rest)
        allowed = login == f"Bearer {server.token}"
        if repo not in server.repos:
            return self._send(404 if allowed else 401, "RepoNotFound")
        if repo in server.gated and not allowed:
            return self._send(403 if login else 401, "GatedRepo")
        revisions = server.repos[repo]
        if kind == "refs":
            branches = [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_of(files)}
                for name, files in revisions.items()
            ]
            return self._send_json({"branches": branches, "converts": [], "tags": []})
        known = [name for name in revisions if rest == name or rest.startswith(f"{name}/")]
        pinned = {commit_of(files): files for files in revisions.values()}
        if not known and rest.partition("/")[0] not in pinned:
            return self._send(404, "RevisionNotFound")
        revision = known[0] if known else rest.partition("/")[0]
        files = revisions[revision] if known else pinned[revision]
        if kind == "tree":
            listed = [
                {"type": "file", "path": f, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for f, c in files.items()
            ]
            return self._send_json(listed)
        if kind == "revision":
            siblings = [{"rfilename": file} for file in files]
            return self._send_json({"id": repo, "sha": commit_of(files), "siblings": siblings})
        content = files.get(rest.removeprefix(f"{revision}/"))
        if content is None:
            return self._send(404, "EntryNotFound")
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        return self._send(200, None, content, headers | {"X-Repo-Commit": commit_of(files)})

    def _send_json(self, value):
        self._send(200, None, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status, code=None, content=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def commit_of(files):
    """The commit hash of some content."""
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


def serve_hub(repos):
    """A running `HubStandIn`."""
    return running(HubStandIn(repos))


def used_by_the_library(url, tmp_path, monkeypatch):
    """Points huggingface_hub at a stand-in, with a cache of its own and without a login."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(hf_api.api, "endpoint", url)

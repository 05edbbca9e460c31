"""Downloads from a server that cuts, stalls, redirects and changes the file."""

import base64
import contextlib
import hashlib
import os
import shlex
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from stand_in import serve

from mixer.errors import BadInput, Failure
from mixer.weights import download, formats, located

CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
fetch = partial(download.fetch, pause=0.0, timeout=5.0)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    with serve(CONTENT) as running:
        yield running


def names(file):
    return sorted(path.name for path in file.parent.iterdir())


def test_fetched_once_and_recorded(server):
    fetched = fetch(server.url("a/weights.npz"))
    assert fetched.file.read_bytes() == CONTENT and fetched.sha256 == DIGEST
    assert fetched.file.parent.name == "a"
    record = fetched.file.with_name("weights.npz.sha256")
    assert record.read_text() == f"{DIGEST}  weights.npz\n"
    assert names(fetched.file) == ["weights.npz", "weights.npz.lock", "weights.npz.sha256"]
    assert fetch(server.url("a/weights.npz")) == fetched
    assert len(server.requests) == 1
    assert fetch(server.url("b/weights.npz")).file != fetched.file
    assert fetch(server.url("a/weights.npz?v=2")).file != fetched.file


def test_a_cut_download_is_resumed(server):
    server.cuts = [100_000, 50_000]
    assert fetch(server.url()).file.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=100000-", "bytes=150000-"]


def test_an_attempt_that_makes_progress_is_not_a_failure(server):
    server.cuts = [30_000] * 9
    assert fetch(server.url(), attempts=2).file.read_bytes() == CONTENT


@pytest.mark.parametrize("change", ["nothing", "etag", "no etag", "no ranges"])
def test_an_interrupted_download_is_resumed_if_the_file_is_the_same(server, change):
    server.cuts = [100_000]
    with pytest.raises(Failure, match="cut after 100,000 of 300,000 bytes"):
        fetch(server.url(), attempts=1)
    if change == "etag":
        server.content, server.etag = CONTENT[::-1], '"second"'
    elif change == "no ranges":
        server.ranges = False
    elif change == "no etag":
        server.etag = ""
    file = fetch(server.url(), attempts=1).file
    assert file.read_bytes() == server.content
    assert server.requests[-1][1] == "bytes=100000-"
    assert names(file) == ["weights.npz", "weights.npz.lock", "weights.npz.sha256"]


def test_without_a_strong_etag_it_starts_over(server):
    server.cuts, server.etag = [100_000], 'W/"weak"'
    assert fetch(server.url()).file.read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, None]


def test_a_file_that_has_changed_since_its_first_use_is_refused(server):
    file = fetch(server.url()).file
    file.write_bytes(b"altered")
    altered = hashlib.sha256(b"altered").hexdigest()
    with pytest.raises(BadInput, match=f"sha256 {altered}, at its first use {DIGEST}") as caught:
        fetch(server.url())
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    file.unlink()
    server.content = b"altered"
    for _ in range(2):
        with pytest.raises(BadInput, match=f"{server.url()} has changed: sha256 {altered}"):
            fetch(server.url())
    assert names(file) == ["weights.npz.lock", "weights.npz.sha256"]
    file.with_name("weights.npz.sha256").unlink()
    assert fetch(server.url()).sha256 == altered


def test_errors_of_the_server(server):
    server.statuses = [503, 429]
    fetch(server.url("a.npz"))
    assert len(server.requests) == 3
    for status in (401, 403, 404):
        server.statuses = [status]
        with pytest.raises(BadInput, match=rf"{server.url('b.npz')} cannot .* \(HTTP {status}\)"):
            fetch(server.url("b.npz"))
    assert len(server.requests) == 6


def test_a_partial_file_that_is_too_long_starts_over(server):
    server.cuts = [100_000]
    with pytest.raises(Failure):
        fetch(server.url(), attempts=1)
    server.content = CONTENT[:50_000]
    assert fetch(server.url()).file.read_bytes() == server.content


def test_redirects_are_followed(server):
    server.moved["/resolve/weights.npz"] = server.url("elsewhere/0123")
    server.cuts = [100_000]
    fetched = fetch(server.url("resolve/weights.npz"))
    assert fetched.file.name == "weights.npz" and fetched.sha256 == DIGEST
    assert server.requests[-1] == ("/elsewhere/0123", "bytes=100000-")


def test_a_stalled_server_times_out(server):
    server.stalls = [3.0, 3.0]
    with pytest.raises(Failure, match=r"the connection stalled: no data for 0\.1 s"):
        fetch(server.url(), timeout=0.1, attempts=1)
    assert fetch(server.url(), timeout=0.1, attempts=3).sha256 == DIGEST


def test_offline_the_message_says_how_to_put_the_file_there(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    with serve(CONTENT) as gone:
        url = gone.url("it's.npz")
    with pytest.raises(Failure) as caught:
        fetch(url, attempts=2)
    file = tmp_path / "cache" / url.removeprefix("http://")
    command = shlex.join(["curl", "-fL", "-o", "it's.npz", url])
    assert command in str(caught.value) and str(caught.value).endswith(f"put the file at {file}")
    file.write_bytes(CONTENT)
    assert fetch(url) == download.Fetched(file, DIGEST)
    assert file.with_name("it's.npz.sha256").exists()


def test_only_one_of_two_processes_downloads(server):
    server.stalls = [1.5]
    code = "import sys; from mixer.weights import download as d; print(d.fetch(sys.argv[1]))"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, server.url()],
            cwd=Path(__file__).parents[2],
            env=os.environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0].splitlines()[-1] == outputs[1].splitlines()[-1]
    assert len(server.requests) == 1 and DIGEST in outputs[0]


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"cache of downloads .* Set \$MIXER_CACHE"):
        fetch(server.url())
    assert not server.requests


def test_addresses(monkeypatch):
    monkeypatch.setenv("MIXER_CACHE", "/cache")
    google = "https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/x.npz"
    assert download.url_of("gs://vit_models/imagenet21k+imagenet2012/x.npz") == google
    path = "/cache/storage.googleapis.com/vit_models/imagenet21k+imagenet2012/x.npz"
    assert download.cache_path(google) == Path(path)
    hub = "https://huggingface.co/timm/mixer/resolve/main"
    assert download.url_of("hf://timm/mixer") == f"{hub}/model.safetensors"
    assert download.url_of("hf://timm/mixer/a/b.npz") == f"{hub}/a/b.npz"
    assert download.url_of(google) == google
    spaced = "https://host/a%20b%C3%A9.npz?v=1%202"
    assert download.url_of("https://host/a b\u00e9.npz?v=1 2") == spaced == download.url_of(spaced)
    for bad in (
        *("https://host", "https://host/../x.npz", "https://host/a/%2e%2e/x", "https:///x"),
        *("https://host/a%00b.npz", "https://host/a%0Ab.npz", "https://[::1/x.npz"),
        *("https://host:port/x.npz", "https://host:99999/x.npz", "https://h\u00f6st/x.npz"),
    ):
        with pytest.raises(BadInput, match="expected https://HOST/PATH/FILE"):
            download.cache_path(download.url_of(bad))
    with pytest.raises(BadInput, match="expected hf://ORG/REPO"):
        download.url_of("hf://timm")
    monkeypatch.delenv("MIXER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert download.cache_path("https://h/x.npz") == Path("/xdg/mixer/h/x.npz")


def test_a_login_is_sent_only_to_its_host_and_never_shown(server, capsys):
    server.moved["/a.npz"] = server.url("b.npz")
    url = server.url("a.npz").replace("http://", "http://me:s%40cret@")
    file = fetch(url).file
    assert file.read_bytes() == CONTENT and "cret" not in str(file) + capsys.readouterr().out
    assert file == download.cache_path(server.url("a.npz"))
    code = base64.b64encode(b"me:s@cret").decode()
    assert server.logins == [f"Basic {code}", None]
    server.statuses = [403]
    with pytest.raises(BadInput, match="HTTP 403") as error:
        fetch(url.replace("a.npz", "c.npz"))
    assert "cret" not in str(error.value) and "me" not in str(error.value).split("/")[2]
    for bad in (
        "https://me:secret@[::1/x.npz",
        "https://me:secret@host",
        "ftp://me:secret@h/x.npz",
    ):
        with pytest.raises(BadInput) as error:
            located.locate(bad)
        assert "secret" not in str(error.value)


@pytest.mark.parametrize("target", ["http", "ftp", "file"])
def test_a_redirect_from_https_to_anything_else_is_refused(target):
    handler, request = download._Redirects(), urllib.request.Request("https://host/x.npz")
    with pytest.raises(BadInput, match=f"redirects to {target}://: expected https$"):
        handler.redirect_request(request, None, 302, "", {}, f"{target}://other/x.npz?token=1")
    assert handler.redirect_request(request, None, 302, "", {}, "https://other/y").host == "other"


def test_a_redirect_from_http_to_a_file_or_ftp_is_refused(server):
    server.moved = {"/a.npz": "ftp://127.0.0.1/x", "/b.npz": "file:///etc/passwd"}
    with pytest.raises(BadInput, match="redirects to ftp://: expected http or https"):
        fetch(server.url("a.npz"))
    with pytest.raises(BadInput, match="cannot be fetched"):
        fetch(server.url("b.npz"))


@pytest.mark.parametrize("length", ["-5", "many", "1_0", ""])
def test_an_invalid_length_is_refused(server, length):
    server.length = length
    with pytest.raises(Failure, match=f"announced an invalid length of '{length}' bytes"):
        fetch(server.url(), attempts=2)
    server.length = None
    assert fetch(server.url()).sha256 == DIGEST


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_download_without_a_length_must_be_complete(server, tmp_path, kind):
    whole = tmp_path / f"whole.{kind}"
    formats.write(whole, {"a": np.arange(9.0), "b": np.ones((5, 7))})
    server.content, server.length = whole.read_bytes(), False
    size = len(server.content)
    server.cuts = [size - 1, size // 2]
    with pytest.raises(Failure, match=f"not announce a length, .* are not a complete .{kind}"):
        fetch(server.url(f"a.{kind}"), attempts=2)
    fetched = fetch(server.url(f"a.{kind}"))
    assert fetched.file.read_bytes() == server.content
    assert [asked for _, asked in server.requests] == [None] * 3


def test_an_empty_answer_and_a_different_part_are_refused(server):
    server.content = b""
    with pytest.raises(Failure, match="the server sent nothing"):
        fetch(server.url(), attempts=2)
    server.content, server.cuts = CONTENT, [100_000]
    with pytest.raises(Failure):
        fetch(server.url(), attempts=1)
    server.range = "bytes 0-299999/300000"
    with pytest.raises(Failure, match="a different part than requested"):
        fetch(server.url(), attempts=1)
    assert fetch(server.url()).sha256 == DIGEST  # from the start


def test_links_next_to_the_file_are_not_followed(server, tmp_path):
    """Anybody could guess these names."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in (".part", ".lock", ".sha256", ".part.etag"):
        file = download.cache_path(server.url("a.npz"))
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(file.name + name)
        beside.unlink(missing_ok=True)
        beside.symlink_to(victim)
        with contextlib.suppress(BadInput):
            fetch(server.url("a.npz"))
        assert victim.read_text() == "mine"
        file.unlink(missing_ok=True)
        beside.unlink(missing_ok=True)

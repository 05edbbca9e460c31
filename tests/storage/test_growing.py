import resource
import sys
import time
import urllib.request

import pytest
from etils import epath

from mixer import storage
from mixer.storage import growing


@pytest.fixture(params=["local", "bucket"])
def folder(request, tmp_path):
    return epath.Path(tmp_path) if request.param == "local" else request.getfixturevalue("bucket")


def test_flushed_content_is_there_and_opening_again_replaces_it(folder):
    path = folder / "log"
    file = storage.grow(path)
    assert path.read_bytes() == b""
    file.write(b"one\n")
    file.write(b"two\n")
    file.flush()
    assert path.read_bytes() == b"one\ntwo\n"
    file.write(b"three\n")
    file.close()
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    file = storage.grow(path, b"one\n")
    assert path.read_bytes() == b"one\n"
    file.write(b"2\n")
    file.close()
    assert path.read_bytes() == b"one\n2\n"


def test_a_file_that_cannot_be_opened_is_named(bucket, tmp_path):
    for path in (tmp_path / "no" / "log", epath.Path("gs://no-such-bucket/log")):
        with pytest.raises(storage.Unwritable, match=f"{path} cannot be written: "):
            storage.grow(path)


def test_uploads_run_in_the_background_and_only_flush_raises_their_error(bucket, monkeypatch):
    monkeypatch.setattr(growing, "_PAUSE", 0)
    path = bucket / "log"
    file = storage.grow(path)

    def write_until(done):
        for number in range(2000):
            if done():
                return number
            file.write(b"x")
            time.sleep(0.005)
        raise AssertionError("never")

    assert write_until(lambda: path.read_bytes()) > 0

    tried = []

    def fail(*_):
        tried.append(1)
        raise KeyError("a client has errors of its own")

    with monkeypatch.context() as failing:
        failing.setattr(type(path), "write_bytes", fail)
        write_until(lambda: len(tried) > 2)
        with pytest.raises(storage.Unwritable, match=f"{path} cannot be written: .*of its own"):
            file.flush()
    written = len(path.read_bytes())
    write_until(lambda: len(path.read_bytes()) > written)
    file.write(b"end")
    file.close()
    assert path.read_bytes().endswith(b"xend")


def test_what_is_uploaded_grows_with_the_time_and_not_with_the_square_of_the_lines(
    bucket, monkeypatch
):
    now, sent = [0.0], []
    monkeypatch.setattr(growing.time, "monotonic", lambda: now[0])
    path = bucket / "log"
    file = storage.grow(path)
    monkeypatch.setattr(type(path), "write_bytes", lambda self, content: sent.append(len(content)))
    for _ in range(5000):  # lines, one a second
        file.write(b"x" * 200)
        now[0] += 1
        file._upload.result()
    assert 0.5 * 5000 * growing._RATE < sum(sent) < 1.1 * 5000 * growing._RATE
    file.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits this process")
def test_a_disk_that_fills_up_within_a_line(tmp_path):
    path = tmp_path / "log"
    file = storage.grow(path, b"x" * 1000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1010, limits[1]))
    try:
        with pytest.raises(storage.Unwritable, match=f"{path} cannot be written: File too large"):
            file.write(b"y" * 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    file.close()
    assert path.read_bytes() == b"x" * 1000 + b"y" * 10


def test_files_that_another_process_writes_to_a_bucket_are_seen(bucket, bucket_server):
    def write_elsewhere(content):
        where = f"{bucket_server}/upload/storage/v1/b/{bucket.name}/o?uploadType=media&name=run/b"
        urllib.request.urlopen(urllib.request.Request(where, content, method="POST")).close()

    folder = bucket / "run"
    (folder / "a").write_text("a")
    assert [path.name for path in folder.iterdir()] == ["a"] and not (folder / "b").exists()
    write_elsewhere(b"1")
    assert (folder / "b").exists() and {path.name for path in folder.iterdir()} == {"a", "b"}
    write_elsewhere(b"12")
    assert (folder / "b").read_bytes() == b"12"

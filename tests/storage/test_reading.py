import base64
import hashlib
import os
import threading

import google_crc32c
import pytest

from mixer import errors, storage
from mixer.storage import reading

CONTENT = bytes(range(256)) * 40


@pytest.fixture(params=["local", "bucket"])
def place(request, server, tmp_path):
    """A folder with files, as a local path and as a gs:// URL."""
    (tmp_path / "files" / "below").mkdir(parents=True)
    (tmp_path / "files" / "a").write_bytes(CONTENT)
    (tmp_path / "files" / "below" / "b c").write_bytes(b"more")
    return str(tmp_path / "files") if request.param == "local" else "gs://bucket/files"


def info(path, **checksums):
    return storage.FileInfo(path, len(CONTENT), **checksums)


def test_local_and_bucket_files_are_read_alike(place):
    assert storage.read(f"{place}/a") == CONTENT
    assert storage.read(f"{place}/a", 100, 1000) == CONTENT[100:1000]
    assert storage.read(f"{place}/a", 100) == CONTENT[100:]
    found = {file.path.removeprefix(place): file.size for file in storage.list_files(place)}
    assert found == {"/a": len(CONTENT), "/below/b c": 4}
    with pytest.raises((OSError, storage.StoreError), match="none"):
        storage.read(f"{place}/none")


def test_a_copy_is_read_in_pieces_and_appears_complete_or_not_at_all(place, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_PIECE", 1000)
    (origin,) = (file for file in storage.list_files(place) if file.path.endswith("/a"))
    target, pieces = tmp_path / "copy", []

    def stop():
        pieces.append(None)
        if len(pieces) == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        storage.copy(origin, target, stop)
    assert not target.exists()
    checked = storage.copy(origin, target)
    assert checked == ("size and md5" if place.startswith("gs://") else "size alone")
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["md5", "crc32c"])
def test_a_copy_is_compared_with_the_best_known_checksum(place, tmp_path, kind):
    sums = {"md5": hashlib.md5(CONTENT), "crc32c": google_crc32c.Checksum(CONTENT)}
    good = {kind: base64.b64encode(sums[kind].digest()).decode()}
    assert storage.copy(info(f"{place}/a", **good), tmp_path / "copy") == f"size and {kind}"
    bad = {kind: base64.b64encode(bytes(len(sums[kind].digest()))).decode()}
    with pytest.raises(storage.DamagedCopy, match=f"a: what arrives .* size and {kind}, tried 3"):
        storage.copy(info(f"{place}/a", **bad), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_only_googles_buckets_are_read(tmp_path):
    for url in ("s3://bucket/a", "https://host/a"):
        with pytest.raises(errors.BadInput, match=f"{url}: expected a path, or gs://BUCKET/PATH"):
            storage.read(url)


def test_the_digest_changes_with_the_content(tmp_path):
    file = tmp_path / "file"
    for content in (b"one", b"another"):
        file.write_bytes(content)
        assert storage.sha256(file) == hashlib.sha256(content).hexdigest()
    with pytest.raises(OSError):
        storage.sha256(tmp_path / "none")


def test_only_one_of_several_processes_makes_it(tmp_path):
    made, waited, path = [], [], tmp_path / "made"

    def make():
        made.append(None)
        begun.wait(10)
        path.write_text("whole")

    def ask():
        storage.make_once(path, make, tmp_path / "lock", lambda: (waited.append(None), begun.set()))
        assert path.read_text() == "whole"

    begun = threading.Event()
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(waited) == 1
    storage.make_once(path, make, tmp_path / "no folder" / "lock")
    assert len(made) == 1, "an existing file needs no lock"


def test_after_a_failure_the_next_process_makes_it(tmp_path):
    path = tmp_path / "made"
    with pytest.raises(ZeroDivisionError):
        storage.make_once(path, lambda: 1 / 0, tmp_path / "lock")
    storage.make_once(path, path.touch, tmp_path / "lock")
    assert path.exists()


def test_a_finished_file_replaces_an_older_one(tmp_path, monkeypatch):
    made, path = tmp_path / "new", tmp_path / "file"
    path.write_text("old")
    made.write_text("new")
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(storage.Unwritable, match="file cannot be written: full"):
            storage.put_in_place(made, path)
    assert path.read_text() == "old"
    storage.put_in_place(made, path)
    assert path.read_text() == "new" and not made.exists()

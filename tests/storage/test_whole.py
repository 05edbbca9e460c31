import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys

import pytest

from mixer import storage
from mixer.storage import whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_the_old_content_or_all_of_the_new(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), storage.write_whole(path) as file:
        file.write(b"half of")
        file.flush()
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["results.json"]
    with storage.write_whole(path) as file:
        file.write(b"half of")
        assert path.read_text() == "old"
        file.write(b" it")
    assert path.read_text() == "half of it" and names(tmp_path) == ["results.json"]


def test_a_folder_is_complete_or_absent(tmp_path):
    path = tmp_path / "dataset"
    with pytest.raises(ZeroDivisionError), storage.write_whole_folder(path) as work:
        (work / "below").mkdir()
        raise ZeroDivisionError
    assert names(tmp_path) == []
    with storage.write_whole_folder(path) as work:
        (work / "below").mkdir()
        (work / "below" / "file").write_text("content")
        assert not path.exists()
    assert names(tmp_path) == ["dataset"] and names(path / "below") == ["file"]
    refused = pytest.raises(
        storage.Unwritable, match="dataset cannot be written: Directory not empty"
    )
    with refused, storage.write_whole_folder(path):
        pass
    assert names(tmp_path) == ["dataset"] and names(path / "below") == ["file"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(mask, tmp_path):
    old = os.umask(mask)
    try:
        with (
            storage.write_whole(tmp_path / "file"),
            storage.write_whole_folder(tmp_path / "folder"),
        ):
            pass
        (tmp_path / "plain").touch()
    finally:
        os.umask(old)
    mode = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names(tmp_path)}
    assert mode == {"file": mode["plain"], "plain": mode["plain"], "folder": 0o777 & ~mask}


def test_a_killed_writers_files_are_removed_and_a_running_ones_are_not(tmp_path):
    script = f"""if True:
        import os, signal
        from pathlib import Path
        from mixer import storage
        folder = Path({str(tmp_path)!r})
        with storage.write_whole(folder / "a") as file, storage.write_whole_folder(folder / "b"):
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    killed = subprocess.run([sys.executable, "-c", script])
    assert killed.returncode == -signal.SIGKILL and len(names(tmp_path)) == 2
    foreign = tmp_path / ".mine.incomplete"
    foreign.touch()
    with storage.write_whole(tmp_path / "a") as file:
        file.write(b"whole")
        with storage.write_whole(tmp_path / "c"):
            pass
    assert names(tmp_path) == [".mine.incomplete", "a", "c"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_killed_writers_files_are_removed_on_nfs(tmp_path, monkeypatch):
    """NFS grants an exclusive lock only on a file opened for writing."""

    def flock(descriptor, kind):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(whole.fcntl, "flock", flock)
    whole.temporary_name(tmp_path / "a").write_text("half")
    with storage.write_whole(tmp_path / "b"):
        pass
    assert names(tmp_path) == ["b"]


def test_a_long_name(tmp_path):
    for name in ("x" * 255, "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 85):
        with storage.write_whole(tmp_path / name) as file:
            file.write(b"1")
        assert (tmp_path / name).read_bytes() == b"1"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "results.json").symlink_to(tmp_path / "precious")
    with storage.write_whole(tmp_path / "results.json") as file:
        file.write(b"new")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "results.json").read_text() == "new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_an_error_names_the_file_and_leaves_nothing(number, call, tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(whole.os, call, fail)
    monkeypatch.setattr(whole.Path, "replace", fail if call == "replace" else whole.Path.replace)
    with pytest.raises(storage.Unwritable) as error, storage.write_whole(path) as file:
        file.write(b"new")
    monkeypatch.undo()
    assert str(error.value) == f"{path} cannot be written: {os.strerror(number)}"
    assert error.value.errno == number
    assert names(tmp_path) == ["results.json"] and path.read_text() == "old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a Linux device")
def test_an_error_of_writing_names_the_file(tmp_path):
    full = pytest.raises(storage.Unwritable, match="x cannot be written: No space left on device")
    with full, whole._File(os.open("/dev/full", os.O_WRONLY), tmp_path / "x") as file:
        file.write(b"content")


def test_a_held_lock_is_waited_for_or_refused(tmp_path):
    path = tmp_path / "lock"
    script = f"""if True:
        from mixer import storage
        with storage.lock({str(path)!r}):
            print("held", flush=True)
            input()
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as other:
        assert other.stdout.readline() == "held\n"

        def refuse():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), storage.lock(path, refuse):
            pass
        waited = []

        def wait():
            waited.append(True)
            other.stdin.write("\n")
            other.stdin.flush()

        with storage.lock(path, wait):
            assert waited == [True]
    with storage.lock(path, refuse):
        pass


def test_a_lock_file_removed_while_we_waited_is_created_again(tmp_path, monkeypatch):
    path, flock = tmp_path / "lock", storage.locks.fcntl.flock
    gone = []

    def slow(descriptor, kind):
        flock(descriptor, kind)
        if not gone:
            gone.append(path.unlink())

    monkeypatch.setattr(storage.locks.fcntl, "flock", slow)
    with storage.lock(path):
        assert path.exists()


def test_a_lock_does_not_follow_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(OSError, match="may not be a symbolic link"),
        storage.lock(tmp_path / "lock"),
    ):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch, capsys):
    def none(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(storage.locks.fcntl, "flock", none)
    with storage.lock(tmp_path / "lock"):
        assert "no locks on this file system" in capsys.readouterr().out

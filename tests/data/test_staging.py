import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from mixer import errors, storage
from mixer.data import order, sources
from mixer.data.sources import staging

REMOTE = "gs://bucket/data"
ALL = [range(383)]


def shard(number):
    return f"noise/1.0.0/noise-train.array_record-{number:05}-of-00003"


def examples(source):
    return [source[i] for i in range(len(source))]


@pytest.mark.parametrize("origin", ["disk", "store"])
def test_a_copy_is_read_like_the_origin(noise_dir, server, tmp_path, origin):
    data_dir = noise_dir if origin == "disk" else REMOTE
    source = staging.open_staged("noise", "train", data_dir, tmp_path / "fast")
    wanted = sources.open_source("noise", "train", data_dir)
    assert sources.fingerprint(source) == sources.fingerprint(wanted)
    assert not list(tmp_path.rglob("*array_record-*")), "shards are copied only on request"
    said = []
    source.stage(ALL, said.append)
    assert said[-1].endswith("checked: size alone" if origin == "disk" else "checked: size and md5")
    asked = server.asked()
    assert examples(source) == examples(sources.open_source("noise", "train", noise_dir))
    assert pickle.loads(pickle.dumps(source))[7] == source[7]
    source.stage(ALL, said.append)
    again = staging.open_staged("noise", "train", noise_dir, tmp_path / "fast")
    again.stage(ALL, said.append)
    assert server.asked() == asked and len(said) == 2, "nothing is copied twice"


def test_only_the_shards_of_the_split_and_the_share_are_copied(server, tmp_path):
    def staged(split, share=None):
        folder = tmp_path / split / str(share)
        source = staging.open_staged("noise", split, REMOTE, folder)
        source.stage(share or [range(len(source))])
        names = sorted(path.name for path in folder.rglob("noise-*-of-*"))
        return [
            name.removeprefix("noise-")[:-9].replace(".array_record-0000", "") for name in names
        ]

    assert staged("train[:40]") == ["train0"]
    assert staged("train[160:]+test") == ["test0", "train1", "train2"]
    made = order.parse("blocks(lanes=2, window=2)", examples=383, seed=0, batch_size=8)
    assert staged("train", made.share(range(4))) == ["train0", "train1"]
    assert staged("train", made.share(range(4, 8))) == ["train1", "train2"]


def test_a_damaged_copy_is_copied_again(noise_dir, server, tmp_path):
    source = staging.open_staged("noise", "train", REMOTE, tmp_path)
    opened = server.asked()
    server.fail = {opened: "damage", opened + 1: "cut", opened + 2: "status"}.get
    source.stage(ALL)
    assert examples(source) == examples(sources.open_source("noise", "train", noise_dir))
    assert server.asked() == opened + 3 + 3
    other = staging.open_staged("noise", "train", REMOTE, tmp_path / "other")
    server.fail = lambda number: "damage"
    with pytest.raises(
        storage.DamagedCopy, match=r"noise-train.*not match its size and md5, tried 3"
    ):
        other.stage(ALL)
    assert not any(s.complete for s in other.shards)


def test_without_checksums_the_size_counts(noise_dir, server, tmp_path):
    server.md5 = False
    source = staging.open_staged("noise", "train", REMOTE, tmp_path)
    said = []
    source.stage(ALL, said.append)
    assert said[-1].endswith("checked: size alone")
    assert examples(source) == examples(sources.open_source("noise", "train", noise_dir))


def test_a_killed_copy_is_resumed(noise_dir, server, tmp_path):
    """The process is killed while the second shard hangs."""
    server.fail = lambda number: "hang" if shard(1) in server.requests[number][0] else None
    script = f"""
        import sys
        sys.modules["jax"] = None
        from pathlib import Path
        from mixer.data.sources import staging
        staging._CONNECTIONS = 1
        source = staging.open_staged("noise", "train", {REMOTE!r}, Path({str(tmp_path)!r}))
        source.stage([range(383)])
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    deadline = time.monotonic() + 60
    while not server.asked(shard(1)) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    source = staging.open_staged("noise", "train", REMOTE, tmp_path)
    assert [s.complete for s in source.shards] == [True, False, False]
    server.fail = lambda number: None
    source.stage(ALL)
    assert [server.asked(shard(i)) for i in range(3)] == [1, 2, 1]
    assert examples(source) == examples(sources.open_source("noise", "train", noise_dir))
    assert not list(tmp_path.rglob("*.incomplete"))


def test_two_at_once_copy_once(noise_dir, server, tmp_path):
    made = [staging.open_staged("noise", "train", REMOTE, tmp_path) for _ in range(2)]
    opened = server.asked()
    server.latency = 0.1
    threads = [threading.Thread(target=source.stage, args=(ALL,)) for source in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked() - opened == 3
    assert examples(made[1]) == examples(sources.open_source("noise", "train", noise_dir))


def test_too_little_space_is_refused_before_copying(noise_dir, tmp_path, monkeypatch):
    source = staging.open_staged("noise", "train", noise_dir, tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=300_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(errors.BadInput, match=r"has 0.000 GB free, noise train needs 0.000 GB"):
        source.stage(ALL)
    assert not any(s.complete for s in source.shards)
    source.check_space([range(140, 160)])  # two shards fit


def test_invalid_staging_is_refused(noise_dir, server, image_folder, tmp_path):
    def refused(message, dataset="noise", split="train", origin=noise_dir, folder=tmp_path / "a"):
        with pytest.raises(errors.BadInput, match=message):
            staging.open_staged(dataset, split, origin, folder)

    refused("expected a local folder", folder="gs://bucket/fast")
    refused("is for prepared TFDS datasets", dataset=f"folder:{image_folder}")
    refused("cifar10.*is not prepared in gs://bucket/data", dataset="cifar10", origin=REMOTE)
    refused("split 'val'", split="val")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    refused("stage=.*file cannot be written", folder=tmp_path / "file")
    copy = tmp_path / "copy"
    shutil.copytree(noise_dir, copy)
    (copy / shard(2)).unlink()
    refused("lacks noise/1.0.0/noise-train.array_record-00002-of-00003", origin=copy)
    info = copy / "noise" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("Noise.", "Others."))
    refused("contains a copy of a different preparation", folder=copy)
    shutil.copytree(noise_dir, tmp_path / "same")
    sums = tmp_path / "same" / "noise" / "1.0.0" / "SHA256SUMS"
    sums.write_text("of shards with other labels")
    again = tmp_path / "again"
    shutil.copytree(noise_dir, again)
    (again / "noise" / "1.0.0" / "SHA256SUMS").write_text("of these")
    refused("contains a copy of a different preparation", origin=again, folder=tmp_path / "same")

"""The folder of a run after a power cut, on a damaged disk, and after its removal."""

import json
import shutil
import subprocess

import pytest
from etils import epath

from configs import quickstart
from mixer import storage
from mixer.errors import BadInput, Failure
from mixer.hosts import holding, software
from mixer.runs import train, workdir
from mixer.training.metrics_log import MetricsLog


@pytest.mark.parametrize("content", ["", '{"run": "train", "met', "\0" * 4096, "[1]", "\udcff"])
def test_a_damaged_results_file_does_not_make_a_run_complete(content, tmp_path, capsys):
    file = epath.Path(tmp_path) / workdir.RESULTS
    file.write_bytes(content.encode(errors="surrogateescape"))
    assert not workdir.is_complete(file.parent)
    assert f"{file} is damaged" in capsys.readouterr().out
    workdir.write_json(file, {"run": "train"})
    assert workdir.is_complete(file.parent)
    file.unlink()
    capsys.readouterr()
    assert not workdir.is_complete(file.parent)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("content", ["", '{"total": "5 epo', "3"])
def test_a_damaged_config_is_one_line_with_the_fix(content, tmp_path):
    config, path = quickstart.get_config("smoke"), epath.Path(tmp_path)
    workdir.begin(path, config)
    workdir.check(path, config)
    intact = (path / workdir.CONFIG).read_text()
    (path / workdir.CONFIG).write_text(content)
    with pytest.raises(BadInput, match=r"config.json is damaged .* copy that config.json here"):
        workdir.check(path, config)
    (path / workdir.CONFIG).write_text(intact)
    workdir.check(path, config)


@pytest.mark.parametrize(
    "read",
    [
        workdir.check_there,
        lambda path: holding._check_ours(path, "me"),
        lambda path: MetricsLog(path, 0, 0),
    ],
)
def test_an_unreadable_file_is_not_called_unwritable(read, tmp_path):
    path = epath.Path(tmp_path / ("long" * 100))
    with pytest.raises(storage.Unreadable, match=f"^{path}/.* cannot be read: File name too long"):
        read(path)


def test_a_check_of_a_folder_leaves_nothing_behind(tmp_path):
    (tmp_path / "kept").mkdir()
    for folder in ("a/b", "kept", "kept/c"):
        workdir.check_writable(epath.Path(tmp_path) / folder)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="file/a cannot be written: Not a directory"):
        workdir.check_writable(epath.Path(tmp_path) / "file/a")
    assert {path.name for path in tmp_path.rglob("*")} == {"kept", "file"}


def test_the_commit_is_of_the_repository_that_tracks_this_code(tmp_path, monkeypatch):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", *who, "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    file = tmp_path / ".venv/mixer/workdir.py"
    file.parent.mkdir(parents=True)
    file.touch()
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=another project's")
    monkeypatch.setattr(software, "__file__", str(file))
    assert software.commit() is None
    git("add", ".")
    git("commit", "--quiet", "--message=ours")
    assert software.commit() == git("rev-parse", "HEAD")


@pytest.mark.long
def test_a_removed_folder_and_truncated_results(data_dir, tmp_path, monkeypatch, capsys):
    config = quickstart.get_config("smoke")
    config.runtime.log_every = config.runtime.checkpoint_every = "2 steps"
    path, elsewhere = tmp_path / "run", tmp_path / "elsewhere"

    def taken_away(session, at, metrics):
        if at == 5:
            session.checkpoints.wait()
            path.rename(elsewhere)

    with monkeypatch.context() as during:
        during.setattr(train._Session, "_tick", taken_away)
        with pytest.raises(Failure, match=r"config.json is gone: the workdir was removed or ren"):
            train.run(config, str(path), "quickstart")
    assert not path.exists()
    elsewhere.rename(path)
    train.run(config, str(path), "quickstart")
    results = path / workdir.RESULTS
    whole = json.loads(results.read_text())
    lines = (path / "metrics.jsonl").read_text()
    assert [json.loads(line)["step"] for line in lines.splitlines()] == [2, 4, 5, 6, 8, 10, 10]
    results.write_text(results.read_text()[:100])
    train.run(config, str(path), "quickstart")
    again = json.loads(results.read_text())
    assert [again[key] for key in ("metrics", "step")] == [
        whole[key] for key in ("metrics", "step")
    ]
    assert (path / "metrics.jsonl").read_text() == lines
    shutil.rmtree(path / "checkpoints")
    results.unlink()
    capsys.readouterr()
    train.run(config, str(path), "quickstart")
    said = f"no checkpoint is in {path / 'checkpoints'}: starting again from step 0"
    assert said in capsys.readouterr().out.splitlines()

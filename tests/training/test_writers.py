"""metrics.jsonl and TensorBoard's event files hold the same numbers, on a disk and in a bucket."""

import itertools
import json

import pytest
from etils import epath
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mixer import storage
from mixer.training import writers
from mixer.training.writers import MetricsLog


@pytest.fixture(params=["near", "far"])
def workdir(request, tmp_path):
    return epath.Path(tmp_path) if request.param == "near" else request.getfixturevalue("bucket")


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def scalars(workdir, tmp_path):
    """{tag: [(step, value)]} of all event files, as TensorBoard would show them."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in workdir.glob("events.out.tfevents.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    events = EventAccumulator(str(copy))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def by_tag(lines):
    found = {}
    for line in lines:
        for tag in line.keys() - {"step"}:
            found.setdefault(tag, []).append((line["step"], line[tag]))
    return found


def test_metrics_of_a_resumed_run_read_like_those_of_one_session(workdir, tmp_path, monkeypatch):
    seconds = itertools.count(10**9)  # the client of the bucket reads the time too
    monkeypatch.setattr(writers.time, "time", lambda: next(seconds))  # each file a time of its own
    whole = [{"step": n // 2, ("loss", "top1")[n % 2]: n / 4} for n in range(2, 12)]
    write = lambda log, line: log.write(line["step"], {k: line[k] for k in line if k != "step"})
    log = MetricsLog(workdir, 0, 0)
    for line in whole[:6]:
        write(log, line)
    log.flush()  # and killed: nobody closes it
    assert lines(workdir) == whole[:6]
    assert scalars(workdir, tmp_path) == by_tag(whole[:6])

    # A checkpoint of step 2 that was saved between its two lines.
    with MetricsLog(workdir, 3, 2) as log:
        assert log.lines == 3 and lines(workdir) == whole[:3]
        for line in whole[3:]:
            write(log, line)
        assert log.lines == len(whole)
    assert lines(workdir) == whole
    (tmp_path / "copy").rename(tmp_path / "before")
    assert scalars(workdir, tmp_path) == by_tag(whole)


@pytest.mark.parametrize("after", [b"", b'{"step": 4, "loss": 0.125}\n'])
@pytest.mark.parametrize(
    "torn",
    [
        *(b'{"step": 3, "loss": 0.2', b"\0" * 40, b'{"step\n\0\0', b"17\n", b"\0\0\n", b"\xff\n"),
        *(b'{"loss": 0.2}\n', b'{"step": 2, "loss": "0.2"}\n', b"\n"),
    ],
)
def test_lines_from_the_first_damaged_one_on_are_dropped(torn, after, tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n' + torn + after)
    with MetricsLog(epath.Path(tmp_path), 4, 2) as log:
        assert log.lines == 2
        log.write(5, {"loss": 0.125})
    assert "lacks 2 lines that it had when the checkpoint was saved" in capsys.readouterr().out
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 5]


def failing(which, when, monkeypatch):
    """Makes files with `which` in their name fail when they are opened, or at the method `when`."""
    grow = storage.grow

    def refuse(*_):
        raise storage.Unwritable(28, "No space left on device", which)

    def grow_or_fail(path, *args, **kwargs):
        if which not in path.name:
            return grow(path, *args, **kwargs)
        if when == "begin":
            refuse()
        file = grow(path, *args, **kwargs)
        monkeypatch.setattr(file, when, refuse)
        return file

    monkeypatch.setattr(storage, "grow", grow_or_fail)


@pytest.mark.parametrize("when", ["begin", "write", "flush", "close"])
def test_a_run_goes_on_without_tensorboard_and_warns_once(when, tmp_path, monkeypatch, capsys):
    failing("tfevents", when, monkeypatch)
    with MetricsLog(epath.Path(tmp_path), 0, 0) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": 1.0})
            log.flush()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert capsys.readouterr().out.count("warning: tfevents cannot be written: No space") == 1


@pytest.mark.parametrize("when", ["write", "flush", "close"])
def test_a_run_ends_if_metrics_jsonl_cannot_be_written(when, tmp_path, monkeypatch):
    failing("metrics.jsonl", when, monkeypatch)
    with (
        pytest.raises(storage.Unwritable, match="metrics.jsonl cannot be written: No space"),
        MetricsLog(epath.Path(tmp_path), 0, 0) as log,
    ):
        log.write(1, {"loss": 1.0})
        log.flush()


def test_the_error_that_ends_a_run_is_the_one_reported(tmp_path, monkeypatch):
    failing("metrics.jsonl", "close", monkeypatch)
    with pytest.raises(ZeroDivisionError), MetricsLog(epath.Path(tmp_path), 0, 0):
        raise ZeroDivisionError

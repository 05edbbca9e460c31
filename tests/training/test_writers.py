"""metrics.jsonl and its writers hold the same numbers; no writer stops a run."""

import io
import itertools
import json

import numpy as np
import pytest
from etils import epath
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams

from mixer import errors, storage
from mixer.training import to_tensorboard, writers
from mixer.training.metrics_log import MetricsLog
from mixer.training.writers import Service, Session, Writers


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
    monkeypatch.setattr(
        to_tensorboard.time, "time", lambda: next(seconds)
    )  # each file a time of its own
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


PICTURE = Image.new("RGB", (6, 4), (10, 200, 30))


def test_tensorboard_has_the_config_the_pictures_and_how_the_run_ended(tmp_path):
    config = {"seed": 3, "schedule.base": 0.5, "mixup": True, "image_size": [8, 8], "name": None}
    with MetricsLog(epath.Path(tmp_path), 0, 0, config=config) as log:
        log.image(0, "first_batch", lambda: PICTURE)
        log.write(4, {"test/top1": 0.75})
        log.finish({"test/top1": 0.75})
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    (found,) = events.Images("first_batch")
    with Image.open(io.BytesIO(found.encoded_image_string)) as image:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(PICTURE))
    shown = events.Tensors("config")[0].tensor_proto.string_val[0].decode()
    assert json.loads(shown) == config and shown.startswith("    {")
    plugin = events.SummaryMetadata
    begun = hparams.parse_session_start_info_plugin_data(
        plugin(hparams.SESSION_START_INFO_TAG).plugin_data.content
    ).hparams
    assert begun["seed"].number_value == 3 and begun["schedule.base"].number_value == 0.5
    assert begun["mixup"].bool_value and begun["image_size"].string_value == "[8, 8]"
    ended = hparams.parse_session_end_info_plugin_data(
        plugin(hparams.SESSION_END_INFO_TAG).plugin_data.content
    )
    assert ended.status == api_pb2.STATUS_SUCCESS


def test_what_a_writer_is_told(told, tmp_path):
    path, names = epath.Path(tmp_path), ("told",)
    with MetricsLog(path, 0, 0, writers=names, config={"seed": 3}) as log:
        log.image(0, "first_batch", lambda: PICTURE)
        log.write(1, {"loss": 0.5})
        log.flush()
        log.write(2, {"loss": 0.25})
    with pytest.raises(ZeroDivisionError), MetricsLog(path, 1, 1, writers=names) as log:
        raise ZeroDivisionError
    with MetricsLog(path, 1, 1, writers=names) as log:
        log.write(2, {"top1": 1.0})
        log.finish({"top1": 1.0})
    first, failed, finished = told
    assert first.session.config == {"seed": 3} and not first.session.lines
    assert first.calls == [
        ("image", 0, "first_batch", PICTURE),
        ("scalars", 1, {"loss": 0.5}),
        ("flush",),
        ("scalars", 2, {"loss": 0.25}),
        ("close", "stopped", {}),
    ]
    assert failed.calls == [("close", "failed", {})]
    assert finished.session.step == 1 and finished.session.lines == [(1, {"loss": 0.5})]
    assert finished.calls == [("scalars", 2, {"top1": 1.0}), ("close", "finished", {"top1": 1.0})]
    assert not list(tmp_path.glob("events*"))  # only the writers that were asked for


@pytest.mark.parametrize("when", ["begin", "scalars", "image", "flush", "close"])
def test_a_writer_that_fails_is_left_out_after_one_warning(when, told, tmp_path, capsys):
    told.failing = when
    with MetricsLog(epath.Path(tmp_path), 0, 0, writers=("told", "tensorboard")) as log:
        for step in (1, 2):
            log.write(step, {"loss": 1.0})
            log.image(step, "batch", lambda: PICTURE)
            log.flush()
    said = capsys.readouterr().out
    assert said == "warning: no network; told will lack the rest of this session\n"
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    assert [step for step, _ in scalars(epath.Path(tmp_path), tmp_path)["loss"]] == [1, 2]
    calls = [name for writer in told for name, *_ in writer.calls]
    assert when not in calls and "close" not in calls


def test_a_picture_that_cannot_be_drawn_ends_no_writer(told, tmp_path, capsys):
    with Writers(("told",), Session(epath.Path(tmp_path))) as shown:
        shown.image(3, "batch", lambda: 1 / 0)
        shown.scalars(3, {"top1": 1.0})
    assert "warning: the picture batch was not drawn: division by zero" in capsys.readouterr().out
    assert [name for name, *_ in told[0].calls] == ["scalars", "close"]


def test_a_service_gets_each_number_once_whatever_was_lost(tmp_path):
    sent = {}

    class Store(Service):
        name = "store"

        def open(self, session, known):
            self.run = known or session.keep_id(self.name)
            self.held = set(sent.setdefault(self.run, {}))

        def holds(self, step, name):
            return (step, name) in self.held

        def log(self, step, metrics):
            for name, value in metrics.items():
                assert (step, name) not in sent[self.run]
                sent[self.run][step, name] = value

    path = epath.Path(tmp_path)
    before = [(1, {"loss": 0.5}), (2, {"loss": 0.25}), (2, {"top1": 0.0})]
    store = Store(Session(path, step=2, lines=before))  # a writer that the run did not have
    store.scalars(3, {"loss": 0.2})
    (run,) = sent
    assert len(sent[run]) == 4
    del sent[run][2, "top1"]  # what a killed process had not sent yet
    store = Store(Session(path, step=2, lines=before))
    store.scalars(3, {"loss": 0.2})  # again
    store.scalars(3, {"top1": 1.0})
    assert list(sent) == [run]
    assert sent[run] == {
        **{(1, "loss"): 0.5, (2, "loss"): 0.25, (2, "top1"): 0.0},
        **{(3, "loss"): 0.2, (3, "top1"): 1.0},
    }
    assert Session(path).id_at("other") is None


def test_names_of_writers(monkeypatch):
    assert writers.parse("") == () and writers.parse("wandb, mlflow,wandb") == ("wandb", "mlflow")
    with pytest.raises(errors.BadInput, match="'wandbb'. Did you mean 'wandb'"):
        writers.parse("tensorboard,wandbb")
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda name: None)
    writers.check(("tensorboard",))
    with pytest.raises(errors.BadInput, match=r"needs the package trackio.*mlp-mixer-jax\[trackio"):
        writers.check(("tensorboard", "trackio"))

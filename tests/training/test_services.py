"""W&B offline, Trackio and MLflow hold the numbers and pictures of a run, also after a resume.

Each is tested where its package is installed: requirements-wandb.txt and so on.
"""

import json
import struct

import pytest
from etils import epath
from PIL import Image

from mixer.training.metrics_log import MetricsLog

# The packages' remarks about themselves and their files are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("two_sessions"),
]
PICTURE = Image.new("RGB", (6, 4), (10, 200, 30))
WHOLE = {"loss": {1: 0.5, 2: 0.25, 3: 0.125}, "few/folder:/a,b/5shot": {2: 0.75}}


@pytest.fixture
def two_sessions(service, tmp_path, monkeypatch):
    """A run that was killed after step 2, its checkpoint being of step 1, and then finished."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read at the import
    pytest.importorskip(service)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    workdir = epath.Path(tmp_path) / "run"
    workdir.mkdir()
    numbers = [(step, name, v) for name, by in WHOLE.items() for step, v in by.items()]
    for lines, step in ((0, 0), (1, 1)):
        with MetricsLog(workdir, lines, step, writers=(service,), config={"seed": 3}) as log:
            if not step:
                log.image(0, "first_batch", lambda: PICTURE)
            for at, name, value in sorted(numbers):
                if step < at < step + 3:
                    log.write(at, {name: value})
            if step:
                log.finish({"loss": 0.125})


@pytest.mark.parametrize("service", ["mlflow"])
def test_mlflow(tmp_path):
    import mlflow

    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("mixer").experiment_id])
    assert run.info.status == "FINISHED" and run.data.params == {"seed": "3"}
    found = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    assert found == {name.replace(",", "_"): [*by.items()] for name, by in WHOLE.items()}
    (picture,) = client.list_artifacts(run.info.run_id)
    with Image.open(client.download_artifacts(run.info.run_id, picture.path)) as image:
        assert image.size == PICTURE.size


@pytest.mark.parametrize("service", ["trackio"])
def test_trackio(tmp_path):
    import trackio

    (run,) = trackio.Api().runs("mixer")
    assert run.config["seed"] == 3
    rows = trackio.SQLiteStorage.get_logs("mixer", run.name)
    found = {name: {r["step"]: r[name] for r in rows if name in r} for name in WHOLE}
    assert found == WHOLE
    assert [r["state"] for r in rows if "state" in r] == ["stopped", "finished"]
    (picture,) = (r["first_batch"] for r in rows if "first_batch" in r)
    with Image.open(next((tmp_path / "trackio").rglob(picture["file_path"]))) as image:
        assert image.size == PICTURE.size


@pytest.mark.parametrize("service", ["wandb"])
def test_wandb(tmp_path):
    from wandb.proto.wandb_internal_pb2 import Record

    ids, exits, found = set(), [], []
    for file in sorted(tmp_path.glob("wandb/offline-run-*/run-*.wandb")):
        numbers = {}
        for content in _records(file.read_bytes()):
            record = Record.FromString(content)
            if record.HasField("run"):
                ids.add(record.run.run_id)
                (seed,) = (c.value_json for c in record.run.config.update if c.key == "seed")
                assert seed == "3" and record.run.project == "mixer"
            if record.HasField("exit"):
                exits.append(record.exit.exit_code)
            for item in record.history.item:
                name = item.key or "/".join(item.nested_key)
                if name in WHOLE:
                    numbers.setdefault(name, {})[record.history.step.num] = json.loads(
                        item.value_json
                    )
        found.append(numbers)
    assert len(ids) == 1 and exits == [1, 0]  # preempted, finished
    assert found[-1] == WHOLE  # the last session's file has the whole run
    (picture,) = tmp_path.glob("wandb/offline-run-*/files/media/images/first_batch*.png")
    with Image.open(picture) as image:
        assert image.size == PICTURE.size


def _records(content):
    """The records of a .wandb file: LevelDB's log format, after a header of seven bytes."""
    place, parts, block = 7, b"", 2**15
    while place + 7 <= len(content):
        if (left := block - place % block) < 7:
            place += left
            continue
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        parts += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""

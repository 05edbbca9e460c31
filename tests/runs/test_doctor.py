"""The doctor finds everything that is wrong, and leaves the workdir as it was."""

import os
import re
import threading
import types

import pytest
from etils import epath
from fsspec.implementations.memory import MemoryFileSystem

from configs import quickstart
from mixer import errors
from mixer.data import sources, turbojpeg
from mixer.hosts import checks, devices, holding, sharing
from mixer.runs import doctor, estimate, input_rate, workdir


@pytest.fixture(autouse=True)
def short_times(monkeypatch):
    monkeypatch.setattr(sharing, "_TIMEOUT", 0.2)
    monkeypatch.setattr(input_rate, "_SECONDS", 0.01)


@pytest.fixture
def config(data_dir):
    return quickstart.get_config("smoke")


def verdicts_of(config, output, gather=lambda one: [one], index=0, present=None):
    needs = doctor.needs_of(config, str(output), processes=1)
    one = checks.Checks(needs, str(output), "token", index, present)
    return doctor.verdicts(one, gather)


def failed(lines):
    return {name: text for name, (good, text) in lines.items() if not good}


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_doctor_leaves_a_workdir_as_it_was(config, tmp_path, capsys):
    output = tmp_path / "deep" / "run"
    asked = config.copy_and_resolve_references()
    asked.run = "doctor"
    doctor.run(asked, str(output), "quickstart:smoke")
    assert list(tmp_path.iterdir()) == []
    path = workdir.unfinished(str(output), config)
    workdir.begin(path, config)
    before = contents(tmp_path)
    with holding.hold(path):  # the run is under way
        doctor.run(asked, str(output), "quickstart:smoke")
    assert contents(tmp_path) == before | {output / ".lock": b""}
    assert workdir.unfinished(str(output), config) == path
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 26 and all(line.startswith("ok ") for line in lines)
    assert any("data, test, digits test[:16]: 16 examples" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runtime.mesh.fsdp": 3}, "fsdp=3, tensor=1 for 8 devices: the sizes must multiply"),
        ({"batch_size": 12}, "config.batch_size=12 is not divisible by the 8 devices"),
        ({"runtime.strategy": "fspd"}, "Did you mean 'fsdp'"),
        ({"runtime.rules": (("stem", ("fsdp", "data", None, None)),)}, "more entries than stem/b"),
    ],
)
def test_a_layout_that_does_not_fit_the_devices_fails(config, change, message, tmp_path):
    config.update_from_flattened_dict(change)
    assert message in failed(verdicts_of(config, tmp_path))["layout"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer.name": "adma"}, "unknown optimizer 'adma'. Did you mean 'adam'?"),
        ({"loss": "bce"}, "unknown config.loss 'bce'. Did you mean 'sigmoid_xent'?"),
        ({"input.transform": "resise"}, "unknown transform 'resise'. Did you mean 'resize'?"),
        ({"total": "3 fortnights"}, "3 fortnights"),
        ({"writers": "wandbb"}, "wandbb"),
    ],
)
def test_a_training_that_cannot_be_built_fails(config, change, message, tmp_path):
    lines = verdicts_of(config, tmp_path)
    assert lines["training"][0] and "10 steps of 8 " in lines["training"][1]
    config.update_from_flattened_dict(change)
    wrong = failed(verdicts_of(config, tmp_path))
    assert list(wrong) == ["training"] and message in wrong["training"]


def test_a_training_is_not_built_without_its_data(config, tmp_path):
    config.dataset = "cifar10"
    lines = verdicts_of(config, tmp_path)
    assert "training" not in lines and not lines["data, training"][0]


def test_the_checkpoint_size_includes_the_ema(config):
    without = doctor.needs_of(config, "", 1).checkpoint_bytes()
    config.ema_decay = 0.9
    assert doctor.needs_of(config, "", 1).checkpoint_bytes() == without * 16 / 12


def test_all_failed_checks_are_reported_at_once(config, image_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    images = sorted((image_folder / "train").rglob("*.png"))
    config.dataset = f"folder:{image_folder}"
    config.evaluators.test.split = "test"
    for image in images:
        image.write_bytes(b"no image")
    config.evaluators.more = config.evaluators.test.copy_and_resolve_references()
    config.evaluators.more.dataset = "cifar10"
    config.evaluators.less = config.evaluators.more.copy_and_resolve_references()
    config.evaluators.less.optional = True
    with pytest.raises(
        errors.Failure, match="3 of 13 checks failed: workdir; data, training; data, more"
    ):
        doctor.run(config, str(tmp_path / "file" / "run"), "quickstart:smoke")
    out = capsys.readouterr().out
    assert f"failed  workdir: --workdir={tmp_path}/file/run: {tmp_path}/file is a file" in out
    assert "its first example: not a readable image (8 bytes): it begins with b'" in out
    assert "like none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM. Copy" in out
    assert "failed  data, more, cifar10 test: dataset 'cifar10' is not prepared in" in out
    assert "ok      data, less, cifar10 test: optional and missing: left out" in out
    assert "ok      data, test, " in out
    assert (tmp_path / "file").read_text() == "in the way"


def test_the_images_that_the_devices_need_are_beside_those_that_the_host_makes(
    config, tmp_path, monkeypatch
):
    monkeypatch.setattr(estimate, "images_per_second", lambda config, devices: 12345)
    config.runtime.threads = 3
    good, text = verdicts_of(config, tmp_path)["input"]
    assert good and re.match("this host makes [0-9,]+ images/s with 3 threads; its 8 cpu ", text)
    assert "; its 8 cpu could train on about 99,000: they will wait. What helps: more wo" in text
    reader = types.SimpleNamespace(threads=1, workers=0)
    said = [input_rate.described(99, rate, reader, staged=False) for rate in (None, 99.4, 98.6)]
    assert said[0] == "makes 99 images/s with 1 thread"
    assert "could train on about 99: they will wait. What helps: " in said[1]
    assert said[2].endswith("; its 8 cpu could train on about 99: it keeps up")
    reader.workers = os.cpu_count()  # more would not help
    assert "wait. What helps: images" in input_rate.described(1, 2, reader, staged=True)


@pytest.mark.parametrize("trouble", [None, "a bad image"])
def test_worker_processes_end_with_the_measurement(config, tmp_path, monkeypatch, trouble):
    class Workers:
        """Stands for worker processes, which `close` ends."""

        def __init__(self, rows, workers, **_):
            started.append(self)
            self.workers, self.closed = workers, False

        def __next__(self):
            if trouble:
                raise errors.Failure(trouble)

        def close(self):
            self.closed = True

    started = []
    monkeypatch.setattr(input_rate.pipeline, "batches", Workers)
    config.runtime.workers = 3
    good, text = verdicts_of(config, tmp_path)["input"]
    assert (good, text) == (False, trouble) if trouble else text.endswith("with 3 worker processes")
    assert [(one.workers, one.closed) for one in started] == [(3, True)]


def test_staged_data_are_measured_where_they_are_stored(config, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "images_per_second", lambda config, devices: 1e9)
    config.dataset, config.input.stage = "imagenet2012", str(tmp_path / "stage")
    config.evaluators.test.update(dataset="imagenet2012", split="validation")
    _, text = verdicts_of(config, tmp_path / "run")["input"]
    assert "threads, before staging; its" in text and "config.input.stage" not in text
    assert not list(tmp_path.rglob("*array_record*"))


def test_an_image_that_cannot_be_read_fails_once(config, image_folder, tmp_path):
    config.dataset = f"folder:{image_folder}"
    config.evaluators.test.split = "test"
    source = sources.open_source(config.dataset, "train")
    first = image_folder / source.where(0).partition(", file ")[2]
    for image in set((image_folder / "train").rglob("*.png")) - {first}:
        image.write_bytes(b"no image")
    wrong = failed(verdicts_of(config, tmp_path))
    assert list(wrong) == ["input"] and ", file train/" in wrong["input"]
    config.input.on_bad = "skip"
    assert not failed(verdicts_of(config, tmp_path))
    first.write_bytes(b"no image")
    assert list(failed(verdicts_of(config, tmp_path))) == ["data, training"]


def test_a_workdir_that_cannot_be_written_fails(config, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("not allowed")

    monkeypatch.setattr(type(workdir.open_workdir(str(tmp_path))), "write_text", refuse)
    (text,) = failed(verdicts_of(config, tmp_path)).values()
    assert text.startswith(f"--workdir={tmp_path} cannot be written: not allowed. Use another")


def test_a_file_system_with_a_wrong_clock_fails(config, tmp_path, monkeypatch):
    kind = type(workdir.open_workdir(str(tmp_path)))
    write = kind.write_text

    def late(path, text):
        write(path, text)
        os.utime(path, (1e9, 1e9))

    monkeypatch.setattr(kind, "write_text", late)
    assert "s apart: set both by NTP" in failed(verdicts_of(config, tmp_path))["workdir"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "present"),
    [
        ({"dev/nvidia0": "", "dev/nvidiactl": ""}, "NVIDIA GPU"),
        ({"dev/accel0": ""}, "TPU"),
        ({"dev/vfio/0": "", "sys/bus/pci/devices/0000:00:04.0/vendor": "0x1ae0\n"}, "TPU"),
        # A passed-through device of another vendor; a Google machine without a TPU.
        ({"dev/vfio/0": "", "sys/bus/pci/devices/0000:00:04.0/vendor": "0x8086\n"}, None),
        ({"dev/vfio/vfio": "", "sys/bus/pci/devices/0000:00:04.0/vendor": "0x1ae0\n"}, None),
        ({"dev/nvidiactl": "", "dev/sda": ""}, None),
    ],
)
def test_accelerators_are_found_by_their_device_files(tmp_path, files, present):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert devices.accelerator(tmp_path) == present


def test_a_silent_fallback_to_the_cpu_fails(config, tmp_path, monkeypatch):
    assert failed(verdicts_of(config, tmp_path)) == {}
    (text,) = failed(verdicts_of(config, tmp_path, present="NVIDIA GPU")).values()
    assert text == ("JAX sees only the CPU on a machine with a NVIDIA GPU: unset JAX_PLATFORMS=cpu")
    monkeypatch.setattr(checks.importlib.metadata, "version", _without("libtpu"))
    wrong = failed(verdicts_of(config, tmp_path, present="TPU"))
    assert wrong.keys() == {"devices", "packages"}
    assert wrong["packages"] == "no libtpu on a TPU: pip install -r requirements-tpu.txt"


def _without(package, version=checks.importlib.metadata.version):
    def found(name):
        if name == package:
            raise checks.importlib.metadata.PackageNotFoundError(name)
        return version(name)

    return found


def test_too_little_space_or_memory_fails(config, tmp_path, monkeypatch):
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: _Free(1000))
    config.runtime.workers = 2
    wrong = failed(verdicts_of(config, tmp_path))
    assert wrong.keys() == {"space", "memory"}
    assert "lower config.runtime.keep_checkpoints" in wrong["space"]
    assert "/dev/shm: enlarge it" in wrong["memory"]
    config.batch_size = 2**40
    assert "use a smaller batch" in failed(verdicts_of(config, tmp_path))["memory"]


class _Free:
    def __init__(self, free):
        self.free = free


def test_a_staging_folder_that_is_too_small_fails(config, tmp_path, data_dir):
    config.dataset = "imagenet2012"
    config.input.stage = str(tmp_path / "stage")
    config.evaluators.test.update(dataset="imagenet2012", split="validation")
    assert "staging" not in failed(verdicts_of(config, tmp_path / "run"))
    config.dataset = "digits:1"
    assert "staging" in failed(verdicts_of(config, tmp_path / "run"))


class Hosts:
    """Threads that play hosts and gather each other's values."""

    def __init__(self, count):
        self.barrier = threading.Barrier(count, timeout=60)
        self.given = [None] * count

    def gather(self, index):
        def one(value):
            self.given[index] = value
            self.barrier.wait()
            everything = list(self.given)
            self.barrier.wait()
            return everything

        return one

    def verdicts(self, *commands):
        """The verdicts of each host, started with its (config, workdir)."""
        said = [None] * len(commands)

        def run(index, config, output):
            said[index] = verdicts_of(config, output, self.gather(index), index)

        threads = [
            threading.Thread(target=run, args=(index, *command))
            for index, command in enumerate(commands)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return said


def test_hosts_that_agree(config, tmp_path):
    first, second = Hosts(2).verdicts((config, tmp_path), (config, tmp_path))
    assert first == second and failed(first) == {}
    assert first["shared workdir"] == (True, "all hosts see what one writes")
    assert first["clocks"][0]
    assert list(tmp_path.iterdir()) == []


def test_hosts_that_differ(config, image_folder, tmp_path):
    other = config.copy_and_resolve_references()
    other.seed = 1
    other.dataset = "nothing"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = Hosts(2).verdicts((config, tmp_path / "a"), (other, tmp_path / "b"))
    wrong = failed(first)
    assert first == second
    test = "data, test, digits test[:16]"
    assert wrong.keys() == {"config", "data, training", test, "shared workdir"}
    assert wrong[test].startswith("not in its config on host 1 (")
    assert "on host 0 (" in wrong["config"] and "on host 1 (" in wrong["config"]
    assert wrong["config"].endswith(": give the same command on all hosts")
    assert "host 1" in wrong["data, training"] and "host 0" not in wrong["data, training"]
    assert "host 0" in wrong["shared workdir"] and "host 1" in wrong["shared workdir"]


def test_clocks_and_versions_that_differ(config, tmp_path):
    def gather(one):
        """Adds a second host, whose clock is a minute ahead and whose JAX is another version."""
        if "time" in one:
            return [one, one | {"time": one["time"] + 60, "sees": True}]
        assert one["findings"]["packages"][1].endswith(f"JPEGs: {turbojpeg.decoder()}")
        findings = one["findings"] | {"packages": (True, "jax 0.9.0")}
        return [one, one | {"host": "odd", "findings": findings}]

    wrong = failed(verdicts_of(config, tmp_path, gather))
    assert wrong.keys() == {"packages", "clocks", "shared workdir"}
    assert wrong["clocks"].startswith("host 1 (odd) is 60 s ahead of host 0")
    assert "jax 0.9.0 on host 1 (odd): install the same wheels" in wrong["packages"]


def test_the_slowest_host_is_named():
    def verdict(*inputs):
        """What the doctor says if this is what its hosts measured."""
        same = {"host": "odd", "findings": {"workdir": (True, "")}, "training": None}
        reports = [same | {"input": each} for each in inputs]
        one = types.SimpleNamespace(
            findings=lambda: {"workdir": (True, "")},
            training=lambda findings: None,
            input=lambda findings: None,
            sees_all=lambda hosts: True,
            clean=lambda: None,
        )
        said = [reports, [{"time": 0, "sees": True}] * len(inputs)]
        return doctor.verdicts(one, lambda _: said.pop(0)).get("input")

    slow, fast = [True, [9.0, "makes 9"]], [True, [10.0, "makes 10"]]
    assert verdict(fast) == (True, "this host makes 10")
    assert verdict(fast, slow, fast) == (True, "host 1 (odd), the slowest of 3, makes 9")
    assert verdict(None, fast, slow) == (True, "host 2 (odd), the slowest of 2, makes 9")
    assert verdict(None, None) is None
    unread = [False, "not a readable image"]
    assert verdict(slow, unread, unread) == (False, f"{unread[1]} on host 1 (odd), host 2 (odd)")


def test_a_workdir_in_a_bucket(config, monkeypatch):
    class Bucket(MemoryFileSystem):
        protocol, store, pseudo_dirs = ("gs", "gcs"), {}, [""]

    bucket = Bucket(skip_instance_cache=True)
    kind = type(epath.backend.fsspec_backend)
    monkeypatch.setattr(kind, "_get_filesystem", lambda *_: bucket)
    first, second = Hosts(2).verdicts(*[(config, "gs://bucket/run")] * 2)
    assert first == second and failed(first) == {}
    assert first["workdir"] == (True, "gs://bucket/run can be written")
    assert first["shared workdir"][0] and not bucket.store

    def refuse(*_, **__):
        raise PermissionError("403 storage.objects.create")

    monkeypatch.setattr(Bucket, "open", refuse)
    wrong = failed(verdicts_of(config, "gs://bucket/run"))
    assert list(wrong) == ["workdir"] and "cannot be written: 403" in wrong["workdir"]

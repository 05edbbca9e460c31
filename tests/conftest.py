"""Eight CPU devices, and small datasets."""

import functools
import io
import json
import os
import sys

# pytest imports it when an object's end raises, which may be in the middle of that very import.
import tracemalloc  # noqa: F401
from pathlib import Path

# The tests spend most of their time in the compiler, so it should optimise little.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true",
)
os.environ["JAX_PLATFORMS"] = "cpu"

import bucket_stand_in
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from absl import flags
from PIL import Image

from mixer import command, storage
from mixer.data.sources import digits, records

HERE = Path(__file__).parent
# The files of tests/quick.txt, without their long tests: a part of each room, in a minute or so.
QUICK = {HERE / name for name in (HERE / "quick.txt").read_text().split()}


def pytest_configure(config):
    """What one test has compiled, another reads, also in a started run and the next time."""
    if cache := getattr(config, "cache", None):  # there is none with -p no:cacheprovider
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache.mkdir("compiled"))
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
        jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path in QUICK and not {"long", "slow"} & item.keywords.keys():
            item.add_marker("quick")
    # The longest begin first, so that no process is left alone with one of them.
    items.sort(key=_minutes, reverse=True)


def _minutes(item):
    marker = item.get_closest_marker("long")
    return marker.kwargs.get("minutes", 0) if marker else 0


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS data_dir with digits and small stand-ins, shared by the workers of one test run."""
    path = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        path = path.parent
    path = path / "data"
    path.mkdir(exist_ok=True)
    with storage.lock(path.parent / "data.lock"):
        digits.prepare(path)
        if not (path / "imagenet2012").exists():
            _tiny_imagenet(path / "imagenet2012" / "5.1.0")
        for name, classes in (("imagenet21k", 21_843), ("jft", 18_291)):
            if not (path / name).exists():
                _tiny_multilabel(path / name / "1.0.0", classes)
        if not (path / "caltech101").exists():
            _tiny_caltech(path / "caltech101" / "3.0.2")
    os.environ["TFDS_DATA_DIR"] = str(path)
    return path


def _tiny_imagenet(directory):
    """64 + 16 images under the name, version and features of ImageNet; and the labels of ReaL."""
    rng = np.random.default_rng(0)

    def examples(file_name, count):
        for i in range(count):
            jpeg = io.BytesIO()
            pixels = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).resize((64, 48)).save(jpeg, "JPEG")
            jpeg.seek(0)
            yield {"image": jpeg, "label": i * 15, "file_name": file_name % (i + 1)}

    names_file = tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names_file=names_file),
            "file_name": tfds.features.Text(),
        }
    )
    splits = {
        "train": examples("n01440764_%d.JPEG", 64),
        "validation": examples("ILSVRC2012_val_%08d.JPEG", 16),
    }
    records.write_dataset(directory, features, splits, "A stand-in.")
    # Every fifth image has no label; the others have one to four.
    real = [[(i * 15 + k) % 1000 for k in range(i % 5)] for i in range(50_000)]
    (directory.parent.parent / "real.json").write_text(json.dumps(real))


def _tiny_multilabel(directory, classes):
    """64 images with at most 3 labels each: some have none, one has the same label twice."""
    rng = np.random.default_rng(1)

    def examples():
        for i in range(64):
            jpeg = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)).save(jpeg, "JPEG")
            jpeg.seek(0)
            several = rng.integers(0, classes, rng.integers(0, 4)).tolist()
            yield {"image": jpeg, "labels": [7, 5, 7] if i == 1 else several}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=classes)),
        }
    )
    records.write_dataset(directory, features, {"full": examples()}, "A stand-in.")
    (directory / "metadata.json").write_text(json.dumps({"max_labels": 3}))


def _tiny_caltech(directory):
    """As many examples as in Caltech101, all with the same image."""
    png = io.BytesIO()
    Image.new("RGB", (30, 20), "blue").save(png, "PNG")

    def examples(count):
        for i in range(count):
            png.seek(0)
            yield {"image": png, "label": i % 102, "image/file_name": f"image_{i}.jpg"}

    name = f"{directory.parent.name}:{directory.name}"
    features = tfds.builder(name, data_dir=directory, try_gcs=False).info.features
    splits = {"train": examples(3_060), "test": examples(6_084)}
    records.write_dataset(directory, features, splits, "A stand-in.")


@pytest.fixture
def said(monkeypatch, capsys):
    """run(*arguments): runs the command in this process; returns (exit code, output, errors)."""
    # The command sets it for the data_dir that it is given; so it is put back after the test.
    if "TFDS_DATA_DIR" in os.environ:
        monkeypatch.setenv("TFDS_DATA_DIR", os.environ["TFDS_DATA_DIR"])
    else:
        monkeypatch.delenv("TFDS_DATA_DIR", raising=False)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["mixer", *arguments])
        # The flag library defines a flag for each key that is set, and keeps it.
        for name in [name for name in flags.FLAGS if name.startswith("config.")]:
            delattr(flags.FLAGS, name)
        code = command.main()
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="session")
def bucket_server():
    with bucket_stand_in.serve() as url:
        yield url


@pytest.fixture
def bucket(bucket_server, tmp_path, monkeypatch):
    """An empty bucket gs://NAME in a stand-in of Google's store, also for started processes."""
    from etils import epath
    from etils.epath import backend

    for name, value in bucket_stand_in.environment(bucket_server).items():
        monkeypatch.setenv(name, value)
    backend.fsspec_backend._get_filesystem.cache_clear()  # one that leads elsewhere
    name = "-".join(tmp_path.parts[-2:]).replace("_", "-").lower()
    bucket_stand_in.create(bucket_server, name)
    yield epath.Path(f"gs://{name}")
    backend.fsspec_backend._get_filesystem.cache_clear()


@pytest.fixture(scope="module")
def one_device():
    """For modules in which sharding does not matter: one device takes half the time to compile."""
    first = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda *_: first)
        yield


@pytest.fixture
def image_folder(tmp_path):
    """root/{train,test}/{cat,dog,eel}: 20, 10 and 5 training images, 4 each for test."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for split, sizes in (("train", (20, 10, 5)), ("test", (4, 4, 4))):
        for label, (name, size) in enumerate(zip(("cat", "dog", "eel"), sizes, strict=True)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(size):
                pixels = rng.integers(0, 80, (20 + label, 24, 3)) + 80 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


class Told(list):
    """The writers that were opened under the name "told"; `failing` is the method that fails."""

    failing = None

    def open(self, session):
        self.append(_Told(self, session))
        return self[-1]


class _Told:
    """A writer that keeps its calls, as tuples (method, arguments ...)."""

    def __init__(self, others, session):
        self.others, self.session, self.calls = others, session, []
        self._take("begin")

    def _take(self, method, *args):
        if self.others.failing == method:
            raise ConnectionError("no network\nand more")
        if method != "begin":
            self.calls.append((method, *args))

    scalars = functools.partialmethod(_take, "scalars")
    image = functools.partialmethod(_take, "image")
    flush = functools.partialmethod(_take, "flush")
    close = functools.partialmethod(_take, "close")


@pytest.fixture
def told():
    """The writer "told", for `config.writers`."""
    from mixer.training import writers

    found = Told()
    writers.register_writer("told", found.open)
    yield found
    del writers._WRITERS["told"]

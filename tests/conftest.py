"""Eight CPU devices, small data."""

import os

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
os.environ["JAX_PLATFORMS"] = "cpu"

import numpy as np
import pytest
from PIL import Image

from mixer.data import digits


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A TFDS data_dir with the digits; shared by the workers of one test run."""
    path = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        path = path.parent
    path = path / "data"
    digits.prepare(path)
    os.environ["TFDS_DATA_DIR"] = str(path)
    return path


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

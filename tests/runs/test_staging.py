import jax
import numpy as np
import pytest

from configs import quickstart
from mixer import errors
from mixer.data import order
from mixer.runs import workdir
from mixer.runs.data import open_data
from mixer.runs.reader import open_reader
from mixer.training import meshes


@pytest.fixture
def config(data_dir):
    return quickstart.get_config("imagenet2012,8")


def read(config, split, shuffle):
    source = open_data(config, "imagenet2012", split)
    reader = open_reader(
        source,
        "resize",
        (8, 8),
        batch_size=16,
        seed=1,
        order=order.parse(shuffle, examples=len(source), seed=1, batch_size=16),
        mesh=meshes.make_mesh(),
        threads=2,
        workers=0,
    )
    yield reader
    with reader.batches(0, 6) as batches:
        yield jax.device_get(list(batches))


@pytest.mark.parametrize("shuffle", ["full", "blocks(size=8, window=2)"])
def test_a_staged_copy_trains_like_the_original(config, tmp_path, shuffle):
    _, wanted = read(config, "train", shuffle)
    config.input.stage = str(tmp_path)
    staged = read(config, "train", shuffle)
    assert next(staged).source.name == "imagenet2012"
    assert not list(tmp_path.rglob("*-of-*")), "nothing is copied while a run is built"
    jax.tree.map(np.testing.assert_array_equal, next(staged), wanted)
    assert [path.name[:18] for path in tmp_path.rglob("*-of-*")] == ["imagenet2012-train"]


def test_digits_are_not_staged(config, tmp_path):
    config.input.stage = str(tmp_path)
    assert len(open_data(config, "digits", "test")) == 360
    assert not list(tmp_path.iterdir())


def test_another_stage_does_not_make_another_run(config, tmp_path):
    path = workdir.open_workdir(str(tmp_path / "run"))
    workdir.begin(path, config)
    config.input.stage = "/elsewhere"
    workdir.check(path, config)
    config.input.shuffle = "blocks"
    with pytest.raises(errors.BadInput, match="config.input.shuffle: 'full' -> 'blocks'") as raised:
        workdir.check(path, config)
    assert "elsewhere" not in str(raised.value)

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from mixer.data import order, sources
from mixer.runs.reader import open_reader
from mixer.training import meshes


@pytest.mark.parametrize("shuffle", ["full", "blocks(size=8, window=4, lanes=2)", ""])
def test_devices_change_nothing(data_dir, shuffle):
    source = sources.open_source("digits", "test", data_dir)

    def batches(devices):
        mesh = Mesh(
            np.array(jax.devices()[:devices]).reshape(devices, 1, 1),
            meshes.AXES,
            axis_types=(AxisType.Auto,) * 3,
        )
        reader = open_reader(
            source,
            "inception_crop",
            (10, 10),
            batch_size=32,
            seed=1,
            order=(shuffle and order.parse(shuffle, examples=360, seed=1, batch_size=32)) or None,
            mesh=mesh,
            threads=2,
            workers=0,
        )
        made = list(reader.batches())
        assert all(len(b["image"].sharding.device_set) == devices for b in made)
        return jax.device_get(made)

    one, four = batches(1), batches(4)
    assert len(one) == 12
    jax.tree.map(np.testing.assert_array_equal, one, four)
    assert sum(b["mask"].sum() for b in one) == (384 if shuffle else 360)

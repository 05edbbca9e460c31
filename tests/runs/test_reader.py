import dataclasses
import weakref

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh

from mixer.data import order, pipeline, sources
from mixer.data.sources import subset
from mixer.runs.reader import open_reader, print_sources
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


def test_a_host_that_reads_more_than_its_share_is_told_the_mend(data_dir, capsys):
    source = sources.open_source("digits", "train", data_dir)
    mesh = meshes.make_mesh()

    def say(shuffle, rows):
        made = order.parse(shuffle, examples=len(source), seed=0, batch_size=32)
        size = {"batch_size": 32, "seed": 0, "order": made, "mesh": mesh, "threads": 1}
        reader = open_reader(source, "resize", (8, 8), workers=0, **size)
        reader = dataclasses.replace(reader, rows=dataclasses.replace(reader.rows, rows=rows))
        print_sources({"training": [reader]}, {"test": []})
        return capsys.readouterr().out

    every_other_device = [row for row in range(32) if row // 4 % 2]
    told = say("blocks(size=8, window=8, lanes=2)", every_other_device)
    assert "this host makes 50% of each batch and reads 100% of the data: lanes=8" in told
    for shuffle in ("blocks(size=8, window=8, lanes=8)", "full"):
        assert "warning" not in say(shuffle, every_other_device)


def test_the_last_batches_are_freed_even_if_a_cycle_holds_them(data_dir, monkeypatch):
    """As Grain's iterators do. The workers' shared memory is given back only then."""
    seen = []

    class Host:
        start_prefetch = close = lambda self: None

        def __init__(self, rows):
            self.itself, self.last = self, rows(0)

        def __next__(self):
            rows = {name: np.asarray(value)[None] for name, value in self.last.items()}
            self.last = rows["image"]
            seen.append(weakref.ref(self.last))
            return rows

    monkeypatch.setattr(pipeline, "batches", lambda rows, **_: Host(rows))
    source = sources.open_source("digits", "test", data_dir)
    one = Mesh(np.array(jax.devices()[:1]).reshape(1, 1, 1), meshes.AXES)
    some = {"batch_size": 1, "seed": 0, "order": None, "mesh": one, "threads": 1, "workers": 2}
    with open_reader(source, "resize", (8, 8), **some).batches(0, 1) as batches:
        batches._put = lambda rows: None
        next(batches)
        assert seen[0]() is not None
    assert seen[0]() is None


@pytest.mark.parametrize(
    ("trained_on", "fraction", "measured"),
    [
        ("train", 1.0, "train[90%:]"),
        ("train[:91%]", 1.0, "train[-200:]"),
        ("train[:10%]+train[50%:60%]", 1.0, "train[5%:55%]"),
        ("train", 0.5, "train[:40%]+train[80%:]"),
        ("train[100:]", 0.9, "train[:300]"),
        ("train[:90%]", 1.0, "train[90%:]"),
        ("train[:90%]", 1.0, "test"),
    ],
)
def test_training_images_that_are_measured_are_counted(
    trained_on, fraction, measured, data_dir, capsys
):
    def opened(split, fraction=1.0):
        whole = sources.open_source("digits", split, data_dir)
        source = subset.fraction_of(whole, fraction, 3)
        size = {"batch_size": 8, "seed": 0, "order": None, "mesh": meshes.make_mesh()}
        return open_reader(source, "resize", (8, 8), threads=1, workers=0, **size), source

    (training, learnt), (test, known) = opened(trained_on, fraction), opened(measured)
    pixels = [{np.asarray(s[i]["image"]).tobytes() for i in range(len(s))} for s in (learnt, known)]
    both = len(set.intersection(*pixels))
    print_sources({"training": [training], "test": [test]}, {"test": [test]})
    said = f"warning: {both:,} of the {len(known):,} images of test are trained on"
    assert (said in capsys.readouterr().out) == (both > 0)
    print_sources({"training": [training]}, {"train": [test]})  # one that measures them on purpose
    assert "warning" not in capsys.readouterr().out

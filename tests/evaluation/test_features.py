import jax
import numpy as np
import pytest

from mixer import errors
from mixer.evaluation.features import extract, forward

BATCH = 16


def apply(params, images):
    flat = images.reshape(len(images), -1).astype("float32")
    return jax.numpy.tanh(flat @ params["w"])


@pytest.fixture(scope="module")
def split():
    """53 images with one label each, and parameters."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (53, 4, 4, 3)).astype(np.uint8)
    params = {"w": rng.standard_normal((48, 5)).astype(np.float32) / 1000}
    return images, rng.integers(0, 9, 53).astype(np.int32), params


def batches(images, labels, hidden=()):
    """Batches, the last one padded; the rows in `hidden` are masked, as unreadable examples are."""
    for first in range(0, len(images), BATCH):
        rows = np.arange(first, first + BATCH)
        real = rows < len(images)
        taken = np.minimum(rows, len(images) - 1)
        mask = real & ~np.isin(rows, hidden)
        yield {"image": images[taken], "label": labels[taken], "mask": mask}


def on_devices(devices, images, labels, params, **more):
    """Compiles as `runs` does: rows sharded over the devices, results replicated."""
    mesh = jax.make_mesh((devices,), ("data",), (jax.sharding.AxisType.Auto,))
    whole, spread = (
        jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))
        for axes in ((), ("data",))
    )
    update = jax.jit(forward(apply), in_shardings=(whole, spread), out_shardings=whole)
    return extract(update, params, batches(images, labels, **more))


@pytest.mark.parametrize("devices", [1, 8])
def test_features_of_every_example_once_and_in_order(split, devices):
    images, labels, params = split
    got = on_devices(devices, *split)
    assert got.features.dtype == np.float32 and got.labels.dtype == np.int32
    np.testing.assert_array_equal(got.labels, labels)
    one_by_one = [np.tanh(image.reshape(-1).astype(np.float64) @ params["w"]) for image in images]
    np.testing.assert_allclose(got.features, one_by_one, atol=1e-5)


def test_the_number_of_devices_does_not_matter(split):
    alone, spread = (on_devices(devices, *split) for devices in (1, 8))
    np.testing.assert_array_equal(alone.labels, spread.labels)
    np.testing.assert_allclose(alone.features, spread.features, atol=1e-6)


def test_masked_rows_are_left_out(split):
    _, labels, _ = split
    got = on_devices(8, *split, hidden=(0, 20, 52))
    kept = np.delete(np.arange(53), (0, 20, 52))
    np.testing.assert_array_equal(got.labels, labels[kept])
    np.testing.assert_array_equal(got.features, on_devices(8, *split).features[kept])


def test_non_finite_features_are_refused(split):
    images, labels, params = split
    with pytest.raises(errors.Failure, match="not all finite"):
        on_devices(8, images, labels, {"w": params["w"] * np.nan})


def test_an_interrupted_extraction_returns_none(split):
    images, labels, params = split
    asked = iter([False, True])
    update = forward(apply)
    got = extract(update, params, batches(images, labels), lambda: next(asked))
    assert got is None and next(asked, "two batches, no more") == "two batches, no more"

"""Reading checkpoints while the run is training: they come and go."""

import dataclasses
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from mixer.checkpoint import reading
from mixer.checkpoint.model_card import ModelCard
from mixer.checkpoint.reading import again_if_gone
from mixer.checkpoint.store import Store
from mixer.errors import BadInput
from mixer.weights.stored import read_stored

CARD = dataclasses.asdict(ModelCard({"name": "Mixer-S/16"}, (8, 8), "resize", ("a", "b"), "digits"))


def save(workdir, *steps, keep=1):
    with Store(workdir / "checkpoints", keep=keep) as store:
        for step in steps:
            items = {"params": {"head": {"bias": jnp.full(3, step, jnp.float32)}}}
            store.save(step, items, {"card": CARD, "best": 1 / step}, None)


def during(monkeypatch, method, change, times=1):
    """Calls `change()` just before each of the first `times` calls of a Store's method."""
    original, left = getattr(Store, method), iter(range(times))

    def changed(self, step, *args):
        if next(left, None) is not None:
            change()
        return original(self, step, *args)

    monkeypatch.setattr(Store, method, changed)


@pytest.mark.parametrize("method", ["meta", "abstract", "restore"])
def test_the_newer_checkpoint_is_read_if_the_first_is_removed(method, tmp_path, monkeypatch):
    save(tmp_path, 1)
    during(monkeypatch, method, lambda: save(tmp_path, 2))
    stored = read_stored(str(tmp_path), None)
    np.testing.assert_array_equal(stored.arrays["head/bias"], [2, 2, 2])
    assert stored.source.endswith("(step 2)")
    assert reading.read_meta(str(tmp_path))["step"] == 2


def test_a_listing_that_misses_the_old_and_the_new_one_is_repeated(tmp_path, monkeypatch):
    save(tmp_path, 1)
    steps, lists = Store.steps, iter([[], []])
    monkeypatch.setattr(Store, "steps", lambda self: next(lists, steps(self)))
    assert reading.read_meta(str(tmp_path))["step"] == 1
    shutil.rmtree(tmp_path / "checkpoints" / "1")
    with pytest.raises(BadInput, match="has no checkpoint yet"):
        reading.read_meta(str(tmp_path))


def test_the_only_checkpoint_is_read_while_it_is_replaced(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints" / "1").rename(tmp_path / "aside")
    (tmp_path / "replaced").mkdir()
    (tmp_path / "aside").rename(tmp_path / "replaced" / "1")
    assert read_stored(str(tmp_path), None).arrays["head/bias"][0] == 1


def test_a_removed_step_that_was_requested_is_an_error(tmp_path, monkeypatch):
    save(tmp_path, 1)
    during(monkeypatch, "abstract", lambda: save(tmp_path, 2))
    with pytest.raises(BadInput, match=r"has no checkpoint of step 1; it has \[2\]"):
        read_stored(str(tmp_path), None, step=1)


def test_meta_and_arrays_are_from_the_same_step(tmp_path, monkeypatch):
    save(tmp_path, 1)

    @again_if_gone
    def load():
        step = reading.read_meta(str(tmp_path))["step"]
        if step == 1:
            save(tmp_path, 2)
        return step, read_stored(str(tmp_path), None, step=step).arrays["head/bias"]

    step, bias = load()
    assert step == 2 and bias[0] == 2


def test_a_run_that_always_removes_the_checkpoint_first(tmp_path, monkeypatch):
    save(tmp_path, 1)
    steps = iter(range(2, 100))
    during(monkeypatch, "abstract", lambda: save(tmp_path, next(steps)), times=100)
    with pytest.raises(BadInput, match=r"while it was read. This happened 20 times: raise"):
        read_stored(str(tmp_path), None)


def test_the_best_is_that_of_the_metric_measured_last(tmp_path):
    """Checkpoints of an older version, then of a metric that falls, then of one that rises."""
    best = lambda: reading.read_meta(str(tmp_path), "best")["step"]
    save(tmp_path, 1, 2, keep=9)
    assert best() == 1
    for first, kept, values, expected in (
        (3, {"best": "nll", "higher_is_better": False}, (5.0, 4.0, 6.0), 4),
        (6, {"best": "accuracy"}, (3.0, 3.9, 3.5, None), 7),  # the last was not evaluated
    ):
        with Store(tmp_path / "checkpoints", keep=9, **kept) as store:
            for step, value in enumerate(values, first):
                items = {"params": {"bias": jnp.zeros(3)}}
                store.save(step, items, {"card": CARD}, value and {kept["best"]: value})
        assert best() == expected


def test_damaged_checkpoints_are_reported_and_skipped_in_choosing_the_best(tmp_path, capsys):
    save(tmp_path, 1, 2, 3, keep=3)
    shutil.rmtree(tmp_path / "checkpoints" / "1" / "meta")
    assert reading.read_meta(str(tmp_path), "best")["step"] == 2
    assert "damaged checkpoint, skipped" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "checkpoints" / "3" / "params")
    with pytest.raises(BadInput, match="damaged checkpoint: .*3: params cannot be read"):
        read_stored(str(tmp_path), None)

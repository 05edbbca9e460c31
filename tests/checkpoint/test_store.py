import errno
import json
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mixer import storage
from mixer.checkpoint import checksum, folders, reading
from mixer.checkpoint.checksum import checksums, with_digest
from mixer.checkpoint.damage import DamagedCheckpoint, Unreachable
from mixer.checkpoint.store import Store
from mixer.errors import BadInput, Failure


def place(devices=8, *axes):
    mesh = jax.make_mesh(
        (devices,), ("data",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )
    return NamedSharding(mesh, PartitionSpec(*axes))


def items(seed=0, where=None):
    rng = np.random.default_rng(seed)
    arrays = {
        "params": {
            "dense": {"kernel": rng.standard_normal((256, 512)), "bias": rng.standard_normal(16)}
        },
        "opt_state": [{"count": np.array(seed)}, rng.standard_normal((256, 512))],
    }
    cast = lambda a: a.astype(np.float32) if a.dtype.kind == "f" else a.astype(np.int32)
    return jax.device_put(jax.tree.map(cast, arrays), where or place())


def abstract(where=None):
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where or place()), items()
    )


def assert_same(first, second):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(first), jax.device_get(second))


def test_the_newest_and_the_best_are_kept(tmp_path):
    accuracy = [0.1, 0.9, 0.3, 0.5, 0.4]
    with Store(tmp_path / "checkpoints", keep=2, best="val/top1") as store:
        for step, value in enumerate(accuracy):
            store.save(step, items(step), {"n": step}, {"val/top1": value})
    with Store(tmp_path / "checkpoints", keep=2, best="val/top1") as store:
        assert store.steps() == [1, 3, 4]
        for step in (1, 3, 4):
            assert_same(store.restore(step, abstract()), items(step))
            assert store.meta(step)["n"] == step


def test_the_lowest_is_the_best_of_a_metric_that_is_better_when_lower(tmp_path):
    lowest = {"keep": 1, "best": "val/nll", "higher_is_better": False}
    with Store(tmp_path, **lowest) as store:
        for step, value in ((0, np.nan), (1, 0.9), (2, 0.1), (3, 0.3)):
            store.save(step, items(step), {}, {"val/nll": value})
    with Store(tmp_path, **lowest) as store:  # known from what is stored
        store.save(4, items(4), {}, {"val/nll": 0.2})
    with Store(tmp_path, **lowest) as store:
        assert store.steps() == [2, 4] and store.meta(2)["best"] == 0.1


def test_of_equal_values_the_first_is_the_best(tmp_path):
    """As in early stopping: an equal value is no improvement."""
    for steps in ((1, 2), (3,)):
        with Store(tmp_path, keep=1, best="m") as store:
            for step in steps:
                store.save(step, items(step), {}, {"m": 0.5})
    with Store(tmp_path, keep=1, best="m") as store:
        assert store.steps() == [1, 3]


def test_values_of_another_metric_are_not_compared(tmp_path):
    """A loss of 2 is no better accuracy than 0.5: the command may change `config.best`."""
    with Store(tmp_path, keep=1, best="nll", higher_is_better=False) as store:
        store.save(1, items(1), {}, {"nll": 2.0})
    with Store(tmp_path, keep=1, best="top1") as store:
        for step, value in ((2, 0.5), (3, 0.4)):
            store.save(step, items(step), {}, {"top1": value})
    with Store(tmp_path, keep=1, best="top1") as store:
        assert store.steps() == [2, 3]


def test_the_best_is_known_from_the_verified_meta_alone(tmp_path):
    with Store(tmp_path, keep=2, best="val/top1") as store:
        for step, value in enumerate([0.9, 0.5, 0.1]):
            store.save(step, items(step), {}, {"val/top1": value})
    for step in (0, 2):
        assert not (tmp_path / str(step) / "metrics").exists()
    (tmp_path / "2" / "metrics").mkdir()  # from an earlier version, which let Orbax write it
    (tmp_path / "2" / "metrics" / "metrics").write_text('{"val/top1": 5}')
    with Store(tmp_path, keep=1, best="val/top1") as store:
        _, found = store.restore_newest(abstract(), print)
        assert found["step"] == 2 and found["best"] == 0.1
        store.save(3, items(3), {}, {"val/top1": 0.2})
    with Store(tmp_path, read_only=True) as store:
        assert store.steps() == [0, 3]


def test_stderr_is_unchanged(tmp_path):
    """Orbax reads the scores of all steps from its own threads at each start."""
    mine = sys.stderr
    with Store(tmp_path, keep=3, best="m") as store:
        for step in (1, 2, 3):
            store.save(step, items(step), {"best": step}, {"m": step})
    for _ in range(20):
        with Store(tmp_path, keep=3, best="m") as store:
            assert store.steps() == [1, 2, 3]
        assert sys.stderr is mine


def test_steps_without_the_metric_do_not_displace_the_best(tmp_path):
    with Store(tmp_path, keep=1, best="m") as store:
        for step, metrics in enumerate([{"m": 0.2}, None, {"m": 0.1}, None]):
            store.save(step, items(step), {}, metrics)
        store._manager.wait_until_finished()
        assert store.steps() == [0, 3]


def test_a_resumed_run_keeps_its_best(tmp_path):
    with Store(tmp_path, keep=1, best="m") as store:
        for step, value in ((1, 0.9), (2, 0.1)):
            store.save(step, items(step), {}, {"m": value})
    with Store(tmp_path, keep=1, best="m") as store:
        store.save(3, items(3), {}, None)
        store.save(4, items(4), {}, {"m": 0.2})
    with Store(tmp_path, keep=1, best="m") as store:
        assert store.steps() == [1, 4]


def test_an_old_checkpoint_that_cannot_be_removed_is_a_warning(tmp_path, monkeypatch, capsys):
    def broken(path):
        raise OSError(errno.EIO, "Input/output error")

    with Store(tmp_path / "checkpoints") as store:
        store.save(1, items(1), {}, None)
        store.wait()
        with monkeypatch.context() as disk:
            disk.setattr(storage.moving.shutil, "rmtree", broken)
            store.save(2, items(2), {}, None)
            store.wait()
        assert store.steps() == [2]
        said = f"warning: {tmp_path}/checkpoints/1 cannot be removed: Input/output error; the newer"
        assert said in capsys.readouterr().out
        (left,) = (tmp_path / "checkpoints").glob(".1.*")
    assert not left.exists()


def test_removing_a_replaced_checkpoint_is_retried(tmp_path, monkeypatch, capsys):
    with Store(tmp_path / "checkpoints") as store:
        store.save(1, items(1), {}, None)
        store.save(1, items(2), {}, None)

        def full(folder):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr(storage.moving, "temporary_name", full)
            store.wait()
        assert f"{tmp_path}/replaced cannot be removed: No space left" in capsys.readouterr().out
        assert (tmp_path / "replaced").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_a_half_removed_checkpoint_is_removed(tmp_path):
    """Orbax or another program leaves one when it is killed."""
    with Store(tmp_path, keep=2, best="m") as store:
        for step in (1, 2):
            store.save(step, items(step), {}, {"m": 1 / step})
    shutil.rmtree(tmp_path / "1" / "meta")
    with Store(tmp_path, keep=1, best="m") as store:
        store.restore_newest(abstract(), print)
        store.save(3, items(3), {}, {"m": 0.9})
    with Store(tmp_path, keep=1, best="m") as store:
        assert store.steps() == [3]


def test_a_step_saved_again_replaces_the_first(tmp_path):
    with Store(tmp_path, keep=3) as store:
        store.save(5, items(1), {"n": 1}, None)
        store.save(5, items(2), {"n": 2}, None)
    with Store(tmp_path, keep=3) as store:
        assert store.meta(5)["n"] == 2
        assert_same(store.restore(5, abstract()), items(2))


@pytest.mark.parametrize("begun", [False, True])
def test_a_checkpoint_is_kept_until_its_replacement_is_complete(begun, tmp_path, monkeypatch):
    """Killed before the replacement is written or, as in an object store, half way; then done."""
    folder = tmp_path / "checkpoints"
    with Store(folder) as store:
        store.save(3, items(1), {"n": 1}, None)
        store.wait()
        with monkeypatch.context() as killed:
            killed.setattr(store._manager, "save", lambda *args, **kwargs: 1 / 0)
            with pytest.raises(Failure, match="could not be written"):
                store.save(3, items(2), {"n": 2}, None)
    assert not (folder / "3").exists()
    if begun:
        (folder / "3" / "params").mkdir(parents=True)
        monkeypatch.setattr(folders, "is_complete", lambda path: path.parent.name == "replaced")
    with Store(folder) as store:
        assert store.steps() == [3] and store.meta(3)["n"] == 1
        assert_same(store.restore(3, abstract()), items(1))
        store.save(3, items(2), {"n": 2}, None)
        store.wait()
        assert_same(store.restore(3, abstract()), items(2))
        assert not (tmp_path / "replaced").exists()


@pytest.mark.parametrize("case", ["in progress", "written", "nobody reads"])
def test_a_run_that_fails_waits_for_its_checkpoint(case, tmp_path, monkeypatch, capsys):
    with pytest.raises(ZeroDivisionError), Store(tmp_path) as store:
        store.save(1, items(), {}, None)
        if case == "written":
            store.wait()
        monkeypatch.setattr(store._manager, "is_saving_in_progress", lambda: True)
        if case == "nobody reads":
            monkeypatch.setattr("builtins.print", stale)
        raise ZeroDivisionError("reported elsewhere")
    said = "exiting once the checkpoint in progress is written\n" * (case == "in progress")
    assert capsys.readouterr().out == said
    assert Store(tmp_path, read_only=True).steps() == [1]


def test_in_a_bucket_steps_are_replaced_put_back_and_set_aside(bucket, monkeypatch):
    folder = bucket / "run" / "checkpoints"
    with Store(folder, keep=3) as store:
        store.save(1, items(1), {"n": 1}, None)
        store.save(2, items(2), {"n": 2}, None)
        store.save(2, items(3), {"n": 3}, None)
        store.wait()
        assert_same(store.restore(2, abstract()), items(3))
        with monkeypatch.context() as killed:
            killed.setattr(store._manager, "save", lambda *args, **kwargs: 1 / 0)
            with pytest.raises(Failure):
                store.save(2, items(4), {"n": 4}, None)
    with Store(folder, keep=3) as store:
        assert store.steps() == [1, 2] and store.meta(2)["n"] == 3
        assert not (bucket / "run" / "replaced").exists()
    (folder / "2" / "meta" / "metadata").unlink()
    reports = []
    with Store(folder, keep=3) as store:
        _, meta = store.restore_newest(abstract(), reports.append)
        assert meta["n"] == 1 and reports[1] == f"moved to {bucket}/run/damaged/2"
        store.save(2, items(5), {"n": 5}, None)
    with Store(folder, keep=3) as store:
        assert store.meta(2)["n"] == 5


def test_donating_the_saved_arrays_at_once_is_safe(tmp_path):
    overwrite = jax.jit(lambda tree: jax.tree.map(jnp.zeros_like, tree), donate_argnums=0)
    tree = items(3)
    with Store(tmp_path) as store:
        store.save(1, tree, {}, None)
        overwrite(tree)
    with Store(tmp_path) as store:
        assert_same(store.restore(1, abstract()), items(3))


def test_meta_that_the_caller_changes_later_is_saved_as_it_was(tmp_path):
    """Orbax writes the meta from a thread: sums that grew meanwhile would be counted twice."""
    sums = {}
    with Store(tmp_path, keep=9) as store:
        for step in range(1, 7):
            sums["loss"] = step
            store.save(step, items(), {"sums": sums}, None)
            sums["loss"] = -1
    with Store(tmp_path, keep=9) as store:
        assert [store.meta(step)["sums"]["loss"] for step in range(1, 7)] == list(range(1, 7))


def test_restoring_onto_another_mesh(tmp_path):
    with Store(tmp_path) as store:
        store.save(1, items(), {}, None)
        two = place(2)
        restored = store.restore(1, abstract(two))
        assert_same(restored, items())
        assert all(x.sharding == two for x in jax.tree.leaves(restored))


def test_checksums_detect_any_flipped_bit_and_are_the_same_on_any_mesh():
    tree = {"a": np.arange(64, dtype=np.float32), "b": {"c": np.ones((8, 2), jnp.bfloat16)}}
    plain = checksums(jax.device_put(tree, place(1)))
    assert plain == checksums(jax.device_put(tree, place(8, "data")))
    assert plain["b/c"] == 16 * 0x3F80
    assert plain["a"] == int(tree["a"].view(np.uint32).astype(np.uint64).sum() % 2**32)
    for bit in (0, 7, 31):
        words = tree["a"].copy().view(np.uint32)
        words[17] ^= np.uint32(1) << np.uint32(bit)
        altered = checksums(jax.device_put({"a": words.view(np.float32)}, place(1)))
        assert altered["a"] != plain["a"]


@pytest.fixture
def saved(tmp_path):
    with Store(tmp_path / "checkpoints", keep=3) as store:
        for step in (1, 2):
            store.save(step, items(step), {"n": step}, None)
    return tmp_path / "checkpoints"


def newest(directory):
    reports = []
    with Store(directory, keep=3) as store:
        found, meta = store.restore_newest(abstract(), reports.append)
        assert_same(found, items(meta["n"]))
        # The damaged step can be saved again.
        store.save(2, items(7), {"n": 7}, None)
    with Store(directory, keep=3) as store:
        assert store.meta(2)["n"] == 7
    return meta["n"], reports


def test_an_array_that_differs_from_its_checksum_is_detected(saved):
    """Orbax reads this checkpoint without an error: only the checksum detects it."""
    path = saved / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    assert meta["n"] == 2
    meta["checksums"]["params"]["dense/kernel"] ^= 1 << 20
    del meta["sha256"], meta["format"]  # otherwise the meta itself is found altered
    path.write_text(json.dumps(meta))
    step, reports = newest(saved)
    assert step == 1
    assert "array params/dense/kernel was altered" in reports[0] and "moved to" in reports[1]
    assert (saved.parent / "damaged" / "2").is_dir()


def test_a_flipped_bit_of_the_meta_is_detected_or_has_no_effect(saved):
    path = saved / "2" / "meta" / "metadata"
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    with Store(saved, read_only=True) as store:
        intact, noticed = store.meta(2), 0
        for bit in rng.choice(8 * len(whole), 60, replace=False):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            path.write_bytes(data)
            try:
                assert store.meta(2) == intact
            except DamagedCheckpoint:
                noticed += 1
    assert noticed >= 55


def test_a_renamed_key_or_step_is_damage(saved):
    path = saved / "2" / "meta" / "metadata"
    path.write_text(path.read_text().replace('"checksums"', '"checksumz"'))
    step, reports = newest(saved)
    assert step == 1 and "2: meta was altered after it was written" in reports[0]
    shutil.copytree(saved / "1", saved / "7")
    reports = []
    with Store(saved, keep=3) as store:
        store.restore_newest(abstract(), reports.append)
    assert reports[0].endswith("7: meta records another step: 1")


def test_the_meta_of_an_older_and_of_a_newer_version(saved, monkeypatch):
    path = saved / "2" / "meta" / "metadata"
    content = json.loads(path.read_text())
    old = {key: value for key, value in content.items() if key not in ("format", "sha256")}
    path.write_text(json.dumps(old))
    with Store(saved, read_only=True) as store:
        assert store.meta(2) == old
    monkeypatch.setattr(checksum, "_FORMAT", 3)
    path.write_text(json.dumps(with_digest(old)))
    monkeypatch.undo()
    with Store(saved) as store, pytest.raises(BadInput, match="has format 3, written by a newer"):
        store.restore_newest(abstract(), print)
    assert not (saved.parent / "damaged").exists()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, truncate, pathlib.Path.unlink])
def test_damaged_files_are_detected_and_the_previous_checkpoint_is_used(saved, damage):
    """Each file of an item in turn: its damage is detected, or has no effect on the numbers."""
    intact = saved.parent / "intact"
    shutil.copytree(saved, intact)
    files = [p.relative_to(intact) for p in sorted((intact / "2" / "params").rglob("*"))]
    assert max((intact / file).stat().st_size for file in files) > 2**16, "where the numbers are"
    noticed = 0
    files = [file for file in files if (intact / file).is_file()]
    # Orbax itself detects a shortened file, so a third of the files are enough.
    for file in files[:: 3 if damage is truncate else 1]:
        shutil.rmtree(saved)
        shutil.copytree(intact, saved)
        damage(saved / file)
        reports = []
        with Store(saved, keep=3) as store:
            found, meta = store.restore_newest(abstract(), reports.append)
        assert_same(found, items(meta["n"]))
        assert meta["n"] == (1 if reports else 2), file
        noticed += bool(reports)
    assert noticed >= (1 if damage is truncate else 3)


@pytest.mark.parametrize("item", ["params", "opt_state"])
def test_a_flipped_bit_in_the_numbers_is_detected(saved, item):
    files = [path for path in (saved / "2" / item).rglob("*") if path.is_file()]
    flip(max(files, key=lambda path: path.stat().st_size))
    reports = []
    with Store(saved, keep=3) as store:
        found, meta = store.restore_newest(abstract(), reports.append)
    assert meta["n"] == 1 and item in reports[0]
    assert_same(found, items(1))


def stale(*_, **__):
    raise OSError(errno.ESTALE, "Stale file handle")


def test_an_unreachable_checkpoint_is_not_moved(saved, monkeypatch):
    with Store(saved, keep=3) as store, monkeypatch.context() as disk:
        disk.setattr(type(store._directory), "read_bytes", stale)
        with pytest.raises(Unreachable, match="2: meta cannot be reached now: Stale file handle"):
            store.restore_newest(abstract(), print)
    assert newest(saved) == (2, [])


def test_all_processes_raise_the_read_error_of_one(saved):
    """Unreachable first, then damage."""
    for troubles, kind in (
        (["another cannot reach 2"], Unreachable),
        ([None, "another finds 2 damaged"], DamagedCheckpoint),
    ):
        with Store(saved, keep=3) as store:
            told = iter(troubles)
            store._first_message = lambda mine, told=told: mine or next(told, None)
            with pytest.raises(kind, match="another"):
                store._read_on_all(lambda: 1)


def test_all_processes_raise_the_error_of_the_one_that_changes_folders(saved, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with Store(saved, keep=3) as store:
        told = []
        store._first_message = lambda mine: told.append(mine) or mine
        monkeypatch.setattr(storage, "move", full)
        with pytest.raises(Failure, match="could not be written: No space left on device"):
            store.save(2, items(), {}, None)
        assert told == ["[Errno 28] No space left on device"]
        # Another process gets only the message.
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        store._first_message = lambda _: told[0]
        with pytest.raises(Failure, match="could not be written: No space left on device"):
            store.save(2, items(), {}, None)


def test_processes_that_see_different_checkpoints_do_not_start(saved):
    said = "has steps \\[1\\] for one process, \\[1, 2\\] for another. Run the same command again"
    with pytest.raises(Failure, match=said):
        Store(saved, keep=3, first_message=lambda mine: "[1]" if mine == "[1, 2]" else mine)


def test_a_stale_listing(saved, monkeypatch):
    """Over NFS a step that was just moved away is still listed."""
    (saved / "2" / "meta" / "metadata").unlink()
    with Store(saved, keep=3) as store:
        listed = store._manager._load_checkpoint_infos()
        monkeypatch.setattr(type(store._manager), "_load_checkpoint_infos", lambda _: listed)
        _, meta = store.restore_newest(abstract(), print)
        assert meta["n"] == 1 and store.steps() == [1]
        for n in (3, 4):
            store.save(2, items(n), {"n": n}, None)
        store.wait()
        assert store.steps() == [1, 2] and store.meta(2)["n"] == 4


def test_no_other_step_becomes_the_best_while_it_is_unreachable(tmp_path, monkeypatch):
    with Store(tmp_path / "checkpoints", keep=3, best="m") as store:
        for step in (1, 2):
            store.save(step, items(step), {"best": 1 / step}, {"m": 1 / step})
    monkeypatch.setattr(type(store._directory), "read_bytes", stale)
    for look in (
        lambda: reading.read_meta(str(tmp_path), "best"),
        lambda: Store(tmp_path / "checkpoints", keep=1, best="m"),
    ):
        with pytest.raises(Unreachable, match="meta cannot be reached now: Stale file handle"):
            look()


def test_all_damaged_is_an_error(saved):
    for step in (1, 2):
        shutil.rmtree(saved / str(step) / "params")
    with Store(saved, keep=3) as store, pytest.raises(DamagedCheckpoint, match="none of the 2"):
        store.restore_newest(abstract(), lambda report: None)
    assert not (saved.parent / "damaged").exists(), "nothing is moved when nothing can be read"


def test_restoring_without_a_checkpoint_is_none(tmp_path):
    with Store(tmp_path / "checkpoints") as store:
        assert store.restore_newest(abstract(), print) is None


def test_a_refused_save_is_an_error(saved):
    with Store(saved, keep=3) as store, pytest.raises(RuntimeError, match="refused to save step 0"):
        store.save(0, items(), {}, None)

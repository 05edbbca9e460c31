"""Finding complete checkpoints, on a disk and in a stand-in for Google Cloud Storage."""

import dataclasses

import jax.numpy as jnp
import pytest
from etils import epath

from mixer import storage
from mixer.checkpoint import folders, reading
from mixer.checkpoint.folders import SEAL
from mixer.checkpoint.manager import Remover
from mixer.checkpoint.model_card import ModelCard
from mixer.checkpoint.store import Store
from mixer.errors import BadInput
from mixer.hosts.last_words import LastWords


@pytest.fixture(params=["disk", "bucket"])
def run(request, tmp_path):
    folder = epath.Path(tmp_path) if request.param == "disk" else request.getfixturevalue("bucket")
    return folder / "run"


def make(run, *names, sealed=True):
    for name in names:
        if not storage.is_remote(run):
            (run / name / "meta").mkdir(parents=True)
        (run / name / "meta" / "metadata").write_text(name)
        if sealed:
            (run / name / SEAL).write_text("")


def found(run):
    """{step: the name it was made with} of all in `checkpoints`."""
    entries = (run / "checkpoints").iterdir()
    return {e.name: (e / "meta" / "metadata").read_text() for e in entries}


@pytest.mark.parametrize(
    ("made", "left"),
    [
        (["checkpoints/1", "replaced/2"], {"1": "checkpoints/1", "2": "replaced/2"}),
        (["checkpoints/2", "replaced/2"], {"2": "checkpoints/2"}),
        (["checkpoints/2", "replaced/1"], {"2": "checkpoints/2"}),
        (["checkpoints/9", "replaced/9.1"], {"9": "checkpoints/9"}),
        (
            ["checkpoints/9", "replaced/10", "replaced/10.2", "replaced/10.10"],
            {"9": "checkpoints/9", "10": "replaced/10.10"},
        ),
        (["checkpoints/1", "replaced/notes"], {"1": "checkpoints/1"}),
        (["replaced/3"], {"3": "replaced/3"}),
    ],
)
def test_a_checkpoint_is_put_back_only_if_its_step_was_being_replaced(made, left, run):
    make(run, *made)
    newest = max(left, key=int)
    directory = run / "checkpoints"
    place = run / left[newest]
    assert folders.newest(directory) == place
    last = LastWords()
    last.checkpoints, last.newest = directory, folders.newest
    assert last.last_checkpoint() == f"The last checkpoint is {place}."
    Store(directory, keep=9)
    assert found(run) == left and folders.newest(directory) == directory / newest
    assert not (run / "replaced").exists()


def test_in_a_bucket_an_incomplete_folder_is_not_a_checkpoint(bucket):
    run = bucket / "run"
    make(run, "checkpoints/1", "replaced/2")
    make(run, "checkpoints/2", "replaced/3", sealed=False)
    Store(run / "checkpoints", keep=9)
    assert found(run) == {"1": "checkpoints/1", "2": "replaced/2"}


def test_in_a_bucket_a_half_removed_folder_is_not_a_checkpoint(bucket, monkeypatch, capsys):
    make(bucket, "checkpoints/1", "replaced/2")
    remover = Remover(bucket / "checkpoints")

    def fail(*_, **__):
        raise OSError("Forbidden")

    with monkeypatch.context() as store:
        store.setattr(type(bucket), "rmtree", fail)
        remover.clear(bucket / "replaced")
    remover.say()
    assert f"warning: {bucket}/replaced cannot be removed: Forbidden" in capsys.readouterr().out
    assert (bucket / "replaced" / "2" / "meta" / "metadata").exists()
    assert folders.newest(bucket / "checkpoints").name == "1"
    remover.clear(bucket / "replaced")
    assert not (bucket / "replaced").exists()


def test_in_a_bucket_the_only_checkpoint_is_found_while_it_is_replaced(bucket):
    make(bucket / "run", "replaced/2")
    assert reading._open(str(bucket / "run")).steps() == [2]
    with pytest.raises(BadInput, match="is not the workdir of a training run"):
        reading._open(str(bucket / "walk"))


@pytest.mark.parametrize("inside", ["checkpoints", "checkpoints/2", "checkpoints/2/params"])
def test_a_path_in_a_workdir_leads_to_the_workdir(inside, tmp_path):
    (tmp_path / "run" / inside).mkdir(parents=True)
    expected = f"is in the workdir of a run: give the workdir, {tmp_path}/run; config.init_step"
    with pytest.raises(BadInput, match=expected):
        reading._open(str(tmp_path / "run" / inside))


def test_the_card_of_the_only_checkpoint_is_found_while_it_is_replaced(run):
    assert reading.newest_card(run) is None
    card = ModelCard({"name": "Mixer-S/16"}, (8, 8), "resize", ("a", "b"), "digits")
    with Store(run / "checkpoints") as store:
        store.save(1, {"params": {"b": jnp.ones(3)}}, {"card": dataclasses.asdict(card)}, None)
    folders.set_aside(run / "checkpoints" / "1", folders.replaced(run / "checkpoints"))
    assert reading.newest_card(run) == card

"""hf:// with a stand-in for the Hub: one line per error, and the Hub's own cache."""

import builtins
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub as hub
import jax
import numpy as np
import pytest
from hub_stand_in import commit_of, serve_hub, used_by_the_library
from huggingface_hub import constants

import mixer
from mixer.checkpoint.model_card import ModelCard
from mixer.errors import BadInput, Failure
from mixer.weights import download, fitting, hf, located, saving

OLD, NEW = b"old weights", b"new weights"
DIGEST = hashlib.sha256(NEW).hexdigest()
FILES = {"model.safetensors": NEW, "a/b.npz": b"other", "README.md": b"text"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    repos = {"timm/mixer": {"main": FILES, "v1": {"model.safetensors": OLD}}}
    with serve_hub(repos) as running:
        used_by_the_library(running.url, tmp_path, monkeypatch)
        yield running


def refused(address, kind=BadInput):
    """The one-line message with which the address is refused."""
    with pytest.raises(kind) as error:
        download.fetch(address)
    assert "\n" not in str(error.value) and "timm/" in str(error.value)
    return str(error.value)


def test_addresses():
    file = hf.HubFile("timm/mixer", "model.safetensors", "main")
    assert hf.parse("hf://timm/mixer") == file
    assert hf.parse("hf://timm/mixer@v1") == file._replace(revision="v1")
    assert hf.parse("hf://timm/mixer/a/b.npz@refs/pr/1") == ("timm/mixer", "a/b.npz", "refs/pr/1")
    for bad in ("hf://timm", "hf://timm/", "hf:///mixer", "hf://timm/mixer/", "hf://timm/mixer@"):
        with pytest.raises(BadInput, match="expected hf://ORG/REPO or .*@REVISION at the end"):
            hf.parse(bad)
    with pytest.raises(BadInput, match="at the end, as in hf://timm/mixer/a/b.npz@v1$"):
        hf.parse("hf://timm/mixer@v1/a/b.npz")


def test_fetched_once_into_the_hubs_cache_and_recorded(server, tmp_path, capsys):
    fetched = download.fetch("hf://timm/mixer")
    assert fetched.file.read_bytes() == NEW and fetched.sha256 == DIGEST
    assert fetched.file == Path(hub.try_to_load_from_cache("timm/mixer", "model.safetensors"))
    record = tmp_path / "cache/huggingface.co/timm/mixer/resolve/main/model.safetensors.sha256"
    assert record.read_text() == f"{DIGEST}  model.safetensors\n"
    assert "fetching hf://timm/mixer from http://127.0.0.1" in capsys.readouterr().out
    asked = len(server.requests)
    server.repos["timm/mixer"]["main"] = {"model.safetensors": b"newest"}
    assert download.fetch("hf://timm/mixer") == fetched == download.fetch("hf://timm/mixer@main")
    assert len(server.requests) == asked and capsys.readouterr().out == ""


def test_a_file_in_the_cache_is_used(server):
    hub.hf_hub_download("timm/mixer", "a/b.npz")
    asked = len(server.requests)
    assert download.fetch("hf://timm/mixer/a/b.npz").file.read_bytes() == b"other"
    assert len(server.requests) == asked


def test_a_revision_is_a_branch_or_a_commit(server):
    commit = commit_of(server.repos["timm/mixer"]["v1"])
    for revision in ("v1", commit):
        assert download.fetch(f"hf://timm/mixer@{revision}").file.read_bytes() == OLD
    located_file = located.locate(f"HF://timm/mixer/model.safetensors@{commit}")
    assert located_file.is_file and Path(located_file.path).read_bytes() == OLD


def test_a_file_that_has_changed_since_its_first_use_is_refused(server):
    file = download.fetch("hf://timm/mixer").file
    server.repos["timm/mixer"]["main"] = {"model.safetensors": OLD}
    newer = hub.hf_hub_download("timm/mixer", "model.safetensors")  # as `hf download` does
    digest = hashlib.sha256(OLD).hexdigest()
    message = refused("hf://timm/mixer")
    assert f"has changed: sha256 {digest}, at its first use {DIGEST}" in message
    assert (
        ".sha256 if the new content is wanted" in message and str(Path(newer).resolve()) in message
    )
    commit = file.parent.name
    assert download.fetch(f"hf://timm/mixer@{commit}").sha256 == DIGEST


def test_a_missing_file_is_named_with_the_nearest_match(server):
    message = refused("hf://timm/mixer/model.safetensor")
    assert "unknown file of http" in message and "Did you mean 'model.safetensors'?" in message
    assert "Known: a/b.npz, model.safetensors." in message
    message = refused("hf://timm/mixer@v2")
    assert "Did you mean 'v1'? Known: main, v1." in message
    message = refused("hf://timm/other")
    assert f"there is no {server.url}/timm/other, or it is private: check the name" in message
    assert "hf auth login" in message and "HF_TOKEN" in message
    assert "expected hf://ORG/REPO" in refused("hf://timm/mi--xer")
    assert "expected hf://ORG/REPO" in refused("hf://timm/mixer/../x.npz")
    assert "expected hf://ORG/REPO" in refused("hf://timm/mixer//x.npz")


def test_a_gated_repository_asks_for_a_login(server, monkeypatch):
    server.gated.add("timm/mixer")
    message = refused("hf://timm/mixer")
    assert f"request it at {server.url}/timm/mixer, then log in (`hf auth login`" in message
    monkeypatch.setenv("HF_TOKEN", "hf_bad")
    assert "request it at" in refused("hf://timm/mixer")
    monkeypatch.setenv("HF_TOKEN", server.token)
    assert download.fetch("hf://timm/mixer").sha256 == DIGEST
    assert server.requests[-1][2] == f"Bearer {server.token}"
    server.status = 403
    assert "may not be read (HTTP 403): log in" in refused("hf://timm/mixer/a/b.npz")


def test_without_a_connection_the_message_says_how_to_put_the_file_there(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the library's attempts
    file = tmp_path / "cache/huggingface.co/timm/mixer/resolve/main/model.safetensors"
    by_hand = (
        f"or, on a machine with a connection, run curl -fL -o model.safetensors https://huggingface.co/"
        f"timm/mixer/resolve/main/model.safetensors and put the file at {file}"
    )
    server.status = 500
    message = refused("hf://timm/mixer", Failure)
    assert "the Hub answers HTTP 500" in message and message.endswith(by_hand)
    server.server_close()
    message = refused("hf://timm/mixer", Failure)
    # A connection that is still open is reset, a new one refused.
    assert re.search("refused|reset", message.lower()) and message.endswith(by_hand)
    file.write_bytes(NEW)
    assert download.fetch("hf://timm/mixer") == download.Fetched(file, DIGEST)


def test_a_failed_transfer_is_reported(server, monkeypatch):
    class ReadError(Exception):
        """An error of the library's HTTP client, which is not an OSError."""

    def broken(*args, **kwargs):
        raise ReadError("connection reset\nby peer")

    monkeypatch.setattr(hub, "hf_hub_download", broken)
    assert "cannot fetch hf://timm/mixer: connection reset. Run" in refused(
        "hf://timm/mixer", Failure
    )


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"the Hub's cache .*file cannot be used: .* HF_HUB_CACHE"):
        download.fetch("hf://timm/mixer")


def test_without_the_library_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path))
    original = builtins.__import__

    def without(name, *args):
        if name.partition(".")[0] == "huggingface_hub":
            raise ImportError(name)
        return original(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refused("hf://timm/mixer").endswith("pip install -r requirements-hub.txt")


@pytest.fixture
def repository(server, tmp_path):
    """Uploads a Mixer's folder and returns what is loaded from it locally."""
    model = mixer.create_model(
        "Mixer-S/32", num_classes=3, num_blocks=8, tokens_mlp_dim=7, channels_mlp_dim=13
    )
    shapes = fitting.shapes(model, (32, 64))
    params = jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes)
    card = ModelCard({"name": "Mixer-S/32"}, (32, 64), "resize", ("a", "b", "c"), "pets")
    saving.save_folder(str(tmp_path / "pets"), params, model, card)
    files = {file.name: file.read_bytes() for file in (tmp_path / "pets").iterdir()}
    server.repos["me/pets"] = {"main": files, "v1": files}
    return mixer.load(tmp_path / "pets")


@pytest.mark.parametrize("address", ["hf://me/pets", "hf://me/pets@v1"])
def test_a_repository_is_loaded_like_a_local_hub_folder(repository, address, monkeypatch):
    model, params, card = mixer.load(address)
    expected, expected_params, expected_card = repository
    assert model == expected and card.class_names == ("a", "b", "c")
    assert dataclasses.replace(card, path="") == dataclasses.replace(expected_card, path="")
    jax.tree.map(np.testing.assert_array_equal, params, expected_params)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert mixer.load(address)[0] == model


def test_a_single_file_and_a_repository_without_config(server, repository, capsys):
    given = {"model": "Mixer-S/32", "pretrained_size": (32, 64)}
    plain = mixer.load("hf://me/pets/model.safetensors", **given)[2]
    assert plain.class_names == ("0", "1", "2")
    assert "taken for a Mixer-S/32" in capsys.readouterr().out
    server.repos["me/bare"] = {"main": dict(server.repos["me/pets"]["main"])}
    del server.repos["me/bare"]["main"]["config.json"]
    bare = mixer.load("hf://me/bare", **given)[2]
    assert dataclasses.replace(bare, path="") == dataclasses.replace(plain, path="")


def test_a_repository_of_another_library_is_refused(server, repository):
    files = server.repos["me/pets"]["main"] | {"config.json": b'{"model_type": "vit"}'}
    server.repos["me/other"] = {"main": files}
    with pytest.raises(
        BadInput, match="'hf://me/other': .* from transformers.*give the file itself"
    ):
        mixer.load("hf://me/other")


def test_offline_the_cache_is_read_without_a_request(server, monkeypatch):
    fetched = download.fetch("hf://timm/mixer")
    asked = len(server.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert download.fetch("hf://timm/mixer") == fetched
    assert "HF_HUB_OFFLINE" in refused("hf://timm/mixer/a/b.npz", Failure)
    assert len(server.requests) == asked


def test_the_hubs_environment_variables_are_used(tmp_path):
    """HF_ENDPOINT, HF_HUB_CACHE and HF_TOKEN, read by the library itself."""
    code = """if True:
        from mixer.weights import download
        print(download.fetch("hf://me/private").file)
    """
    with serve_hub({"me/private": {"main": FILES}}) as server:
        server.gated.add("me/private")
        env = os.environ | {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(tmp_path / "hub")}
        env |= {"MIXER_CACHE": str(tmp_path / "cache"), "HF_TOKEN": server.token}
        command = [sys.executable, "-c", code]
        out = subprocess.check_output(command, cwd=Path(__file__).parents[2], env=env, text=True)
    file = Path(out.splitlines()[-1])
    assert file.is_relative_to(tmp_path / "hub") and file.read_bytes() == NEW

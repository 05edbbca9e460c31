"""Uploads to a stand-in of the Hub, with the Hub's own library."""

import sys

import pytest
from hub_stand_in import serve_hub, used_by_the_library

from mixer.errors import BadInput, Failure
from mixer.weights import hf, hub_push

FILES = {"README.md": b"---\ntags: []\n---\ntext", "model.safetensors": b"weights"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    with serve_hub({"lab/old": {"main": {"notes.txt": b"kept"}}}) as running:
        used_by_the_library(running.url, tmp_path, monkeypatch)
        monkeypatch.setenv("HF_TOKEN", running.token)
        yield running


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    for name, content in FILES.items():
        (path / name).write_bytes(content)
    return str(path)


def test_a_new_repository_is_private_and_has_the_files(server, folder):
    hub_push.check("lab/new")
    url = hub_push.push(folder, "lab/new")
    assert url.startswith(f"{server.url}/lab/new/commit/")
    assert server.repos["lab/new"] == {"main": FILES} and server.private == {"lab/new"}
    assert hf.fetch("hf://lab/new").read_bytes() == b"weights"


def test_a_branch_and_what_is_there_stay(server, folder):
    hub_push.push(folder, "lab/old@v2")
    hub_push.push(folder, "lab/old@v2")  # it exists by now
    kept = {"notes.txt": b"kept"}
    assert server.repos["lab/old"] == {"main": kept, "v2": kept | FILES} and not server.private


def test_what_the_hub_refuses_leaves_the_folder_and_says_how_to_go_on(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    message = (
        r"model is written, but lab/new could not be pushed to: .*403.* hf upload lab/new .*main"
    )
    with pytest.raises(Failure, match=message) as error:
        hub_push.push(folder, "lab/new")
    assert "\n" not in str(error.value)


def test_what_cannot_be_pushed_is_refused_before(monkeypatch, tmp_path):
    used_by_the_library("http://127.0.0.1:9", tmp_path, monkeypatch)
    for text in ("name", "a/b/c", "lab/new@", "lab/new@v 1"):
        with pytest.raises(BadInput, match="expected ORG/NAME of the Hugging Face Hub"):
            hub_push.check(text)
    with pytest.raises(BadInput, match="config.push='lab/a--b': Cannot have --"):
        hub_push.check("lab/a--b")
    with pytest.raises(BadInput, match="needs a login that may write: log in"):
        hub_push.check("lab/new")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BadInput, match="needs the package huggingface_hub: pip install"):
        hub_push.check("lab/new")

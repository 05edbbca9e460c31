"""Small datasets: of several shards, here and in a stand-in for a store, and in every form."""

import forms
import object_server
import pytest
import sharded


@pytest.fixture(scope="session")
def noise_dir(tmp_path_factory):
    """A data_dir with `noise`: 150 + 83 + 150 training images in three shards, 40 for test."""
    path = tmp_path_factory.mktemp("bucket")
    sharded.write(path / "data" / "noise" / "1.0.0", {"train": [150, 83, 150], "test": [40]})
    return path / "data"


@pytest.fixture
def server(noise_dir, monkeypatch):
    """Serves `noise_dir` as gs://bucket/data; retries are fast."""
    with object_server.as_google(noise_dir.parent, monkeypatch) as server:
        yield server


@pytest.fixture(scope="session")
def made():
    return forms.make()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the user."""
    monkeypatch.setenv("MIXER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"

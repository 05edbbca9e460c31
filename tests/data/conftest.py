"""A dataset of several shards, on this machine and in a stand-in for an object store."""

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

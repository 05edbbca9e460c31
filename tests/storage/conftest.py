import object_server
import pytest


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the files below tmp_path as gs://bucket/..."""
    with object_server.as_google(tmp_path, monkeypatch) as server:
        yield server

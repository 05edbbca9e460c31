import pytest

from mixer.storage import bucket

URL = "gs://bucket/a folder/x+y.bin"


@pytest.fixture
def content(server, tmp_path):
    (tmp_path / "a folder").mkdir()
    content = bytes(range(256)) * 40
    (tmp_path / "a folder" / "x+y.bin").write_bytes(content)
    return content


def test_ranges(content, server):
    assert bucket.read(URL) == content
    assert bucket.read(URL, 100, 1000) == content[100:1000]
    assert bucket.read_end(URL, 100) == (content[-100:], len(content))
    assert bucket.read_end(URL, 10**6) == (content, len(content))
    with pytest.raises(bucket.StoreError, match="requested bytes 10000-10999, got others"):
        bucket.read(URL, 10_000, 11_000)


def test_a_listing_has_all_pages(content, server, tmp_path):
    for i in range(7):
        (tmp_path / "a folder" / f"{i}").write_bytes(bytes(i))
    (tmp_path / "b").write_bytes(b"")
    found = bucket.listing("gs://bucket/a folder/")
    assert [entry.size for entry in found] == [*range(7), len(content)]
    assert found[0].path == "gs://bucket/a folder/0" and found[0].md5 == "1B2M2Y8AsgTpgAmY7PhCfg=="
    assert bucket.listing("gs://bucket/none") == []


@pytest.mark.parametrize("fault", ["status", "cut", 429, 408, 500])
def test_transient_errors_are_retried(content, server, fault):
    server.fail = lambda number: fault if number < 4 else None
    assert bucket.read(URL, 0, 5000) == content[:5000]
    assert server.asked() == 5
    server.fail = lambda number: fault
    with pytest.raises(bucket.StoreError, match=r"gs://bucket/a folder.*after 8 attempts"):
        bucket.read(URL, 0, 5000)
    assert server.asked() == 5 + 8


def test_permanent_errors_are_not_retried(content, server):
    with pytest.raises(bucket.StoreError, match="status 404 .* after 1 attempt. Check"):
        bucket.read("gs://bucket/none")
    server.public = False
    with pytest.raises(bucket.StoreError, match="status 401.*without credentials.*-gcs.txt"):
        bucket.read(URL)
    assert server.asked() == 2


def test_no_server_is_an_error(monkeypatch):
    monkeypatch.setattr(bucket, "_FIRST_PAUSE", 0.001)
    monkeypatch.setenv("CLOUD_STORAGE_EMULATOR_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(bucket.StoreError, match="ConnectionRefusedError.*after 8 attempts"):
        bucket.read(URL)


def test_a_silent_server_times_out_and_is_retried(content, server, monkeypatch):
    monkeypatch.setattr(bucket, "_TIMEOUT", 0.05)
    server.fail = lambda number: "hang" if number < 2 else None
    assert bucket.read(URL) == content


def test_connections_closed_by_the_server_cost_one_attempt(content, server, monkeypatch):
    class Left:
        def request(self, *_, **__):
            raise ConnectionResetError("left")

        def close(self):
            pass

    monkeypatch.setattr(bucket, "_idle", [Left() for _ in range(20)])
    assert bucket.read(URL) == content

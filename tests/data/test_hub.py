"""hf:ORG/NAME with a stand-in for the Hub: the files of a data set, in the Hub's cache."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forms import table_of
from hub_stand_in import serve_hub, used_by_the_library

from mixer import errors
from mixer.data import sources
from mixer.data.sources import hub

PIXELS, LABELS = (
    np.arange(6 * 48, dtype=np.uint16).astype(np.uint8).reshape(6, 4, 4, 3),
    [0, 1, 2] * 2,
)


def file_of(table):
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


DATA = file_of(table_of(PIXELS, LABELS))
FILES = {f"data/{split}-00000-of-00001.parquet": DATA for split in ("train", "test")}
OTHERS = {"README.md": b"# text", "image.zip": b"an archive"}


@pytest.fixture
def server(tmp_path, monkeypatch):
    hub._fetched.cache_clear()
    two = {f"{config}/{name.removeprefix('data/')}": DATA for config in "ab" for name in FILES}
    repos = {
        "us/plain": {"main": FILES | OTHERS, "v1": {"train.parquet": DATA}},
        "us/two": {"main": two},
        "us/zipped": {
            "main": OTHERS,
            "refs/convert/parquet": {"default/train/0000.parquet": DATA},
        },
        "us/text": {"main": OTHERS},
    }
    with serve_hub(repos) as running:
        used_by_the_library(running.url, tmp_path, monkeypatch)
        yield running


def examples(source):
    return [source[i] for i in range(len(source))]


@pytest.mark.parametrize(
    "place",
    ["us/plain", "//us/plain", "us/plain/data", "us/plain@v1", "us/two/b", "us/zipped"],
)
def test_the_examples_are_those_of_the_files(place, server, tmp_path):
    pq.write_table(table_of(PIXELS, LABELS), tmp_path / "train.parquet")
    known = sources.open_source(f"parquet:{tmp_path}", "train")
    found = sources.open_source(f"hf:{place}", "train")
    assert examples(found) == examples(known) and found.classes == known.classes
    assert found.name == f"hf:{place}" and sources.is_dataset(found.name)
    fetched = {path.rpartition("/")[2] for method, path, _ in server.requests if "resolve" in path}
    assert fetched and not fetched & OTHERS.keys()


def test_a_second_run_fetches_nothing(server):
    first = examples(sources.open_source("hf:us/plain", "test"))
    hub._fetched.cache_clear()  # as in another process
    server.requests.clear()
    assert examples(sources.open_source("hf:us/plain", "test")) == first
    assert not [path for method, path, _ in server.requests if "resolve" in path]


def test_what_is_not_there_is_refused_in_a_line(server):
    for place, message in (
        ("us/none", "there is no http.*datasets/us/none, or it is private"),
        ("us/plain@v9", "has no revision 'v9'"),
        ("us/text", "neither .parquet nor .tar files, and the Hub has made no tables"),
        ("us/two", "are these several data sets"),
        ("plain", "expected hf:ORG/NAME"),
    ):
        with pytest.raises(errors.BadInput, match=message):
            sources.open_source(f"hf:{place}", "train")
    server.gated = {"us/plain"}
    with pytest.raises(errors.BadInput, match="access is granted by its authors"):
        sources.open_source("hf:us/plain", "train")
    server.gated, server.status = set(), 418
    hub._fetched.cache_clear()
    with pytest.raises(errors.Failure, match="hf:us/plain cannot be fetched to"):
        sources.open_source("hf:us/plain", "train")

import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from mixer import storage
from mixer.data.sources import remote_shards

URL = "gs://bucket/x.array_record"


@pytest.fixture
def put(server, tmp_path):
    """Writes records as one shard into the store."""
    server.root = tmp_path

    def put(records, options="group_size:1"):
        writer = ArrayRecordWriter(str(tmp_path / "x.array_record"), options)
        for record in records:
            writer.write(record)
        writer.close()
        return remote_shards.ShardPart(URL, 0, len(records), len(records))

    return put


def records(rng_bytes, sizes):
    return [rng_bytes(size) for size in sizes]


@pytest.mark.parametrize("coding", ["", ",uncompressed", ",brotli", ",zstd:1"])
@pytest.mark.parametrize(
    "sizes",
    # Sizes around the format's blocks of 64 KiB with headers of 24 bytes, and empty records.
    [
        [1],
        [0, 5, 0, 0, 7],
        [65400, 65471, 65472, 65473, 65536, 65560, 3],
        [10] * 3000,
        [200_001] * 5,
    ],
)
def test_records_are_those_of_the_package_reader(put, tmp_path, coding, sizes):
    import random

    written = records(random.Random(0).randbytes, sizes)
    part = put(written, "group_size:1" + coding)
    assert ArrayRecordReader(str(tmp_path / "x.array_record")).read_all() == written
    made = remote_shards.RemoteShards([part])
    assert made.__getitems__(range(len(sizes))) == written
    assert made[len(sizes) - 1] == written[-1]
    middle = len(sizes) // 2
    assert made.__getitems__(range(middle, len(sizes))) == written[middle:]


def test_one_request_for_the_index_and_one_for_a_run(put, server):
    made = remote_shards.RemoteShards([put([bytes([i]) * 1000 for i in range(200)])])
    made.__getitems__(range(20, 150))
    assert len(server.requests) == 2
    made.__getitems__([7, 8, 3])
    assert len(server.requests) == 4, "a run of two, and one alone"


def test_persistent_damage_is_named(put, server):
    part = put([bytes(50_000)] * 4, "group_size:1,uncompressed")
    made = remote_shards.RemoteShards([part])
    made[0]
    server.fail = lambda number: "damage"
    with pytest.raises(
        remote_shards.DamagedShard, match=r"records 1-2 \(bytes \d+-\d+\) cannot be read"
    ):
        made.__getitems__([1, 2])


def test_other_files_are_refused(put, server, tmp_path):
    part = put([b"a", b"b"])
    with pytest.raises(
        remote_shards.DamagedShard, match="has 2 records, but its dataset's metadata say 9"
    ):
        remote_shards.read_index(URL, 9)
    put([b"a"] * 4, "group_size:4")
    with pytest.raises(remote_shards.DamagedShard, match="4 records per group, expected 1"):
        remote_shards.read_index(URL, 4)
    for content in (b"", b"short", bytes(200_000), bytes(range(256)) * 1000):
        (tmp_path / "x.array_record").write_bytes(content)
        with pytest.raises((remote_shards.DamagedShard, storage.StoreError), match=URL):
            remote_shards.RemoteShards([part])[0]

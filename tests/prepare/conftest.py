import io
import tarfile

import pytest

from mixer.data import sources
from mixer.prepare import dataset, dedup, readers


@pytest.fixture
def job(tmp_path):
    """(source, name, **more) -> a `Preparation` of tmp_path/out, in this process."""

    def make(
        source, name="mine", shard_bytes=3000, dedup_against="", version="1.0.0", split="train"
    ):
        return dataset.Preparation(
            source=source,
            reader=readers.open_reader(source),
            target=tmp_path / "out" / name / version,
            split=split,
            shard_bytes=shard_bytes,
            processes=1,
            dedup_against=dedup_against,
            test_sets=dedup.open_sets(dedup_against, tmp_path / "out"),
        )

    return make


@pytest.fixture
def prepare(job):
    """Like `job`, but prepares the dataset and returns its folder."""

    def run(source, name="mine", **more):
        made = job(source, name, **more)
        assert dataset.prepare(made, accept=lambda: None, stop=lambda: False)
        assert not made.work.exists()
        return made.target

    return run


@pytest.fixture
def tar(tmp_path):
    """(name, {member: bytes or path}) -> a tar with these members, in this order."""

    def make(name, members, mode="w"):
        path = tmp_path / name
        with tarfile.open(path, mode) as file:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
        return path

    return make


@pytest.fixture
def images(image_folder):
    """{path below image_folder: bytes}, in an arbitrary order."""
    files = sorted(image_folder.rglob("*.png"), key=lambda path: path.name)
    return {str(path.relative_to(image_folder)): path.read_bytes() for path in files}


@pytest.fixture
def read():
    """(folder, split) -> the examples of a prepared split, read with training's own source."""

    def examples(folder, split):
        name = f"{folder.parent.name}:{folder.name}"
        source = sources.open_source(name, split, folder.parents[1])
        return [source[i] for i in range(len(source))]

    return examples

"""Moving folders on a disk and in fake-gcs-server, a stand-in for Google Cloud Storage."""

import os

import pytest
from etils import epath
from etils.epath import backend

from mixer import storage

SEAL = "seal.txt"


@pytest.fixture(params=["disk", "bucket"])
def root(request, tmp_path):
    if request.param == "disk":
        return epath.Path(tmp_path)
    return request.getfixturevalue("bucket") / "run"


def fill(folder):
    for name in ("a", SEAL, "params/x", "params/d/y"):
        if not storage.is_remote(folder):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def content(folder):
    """{relative name: text} of all files."""
    if not folder.exists():
        return {}
    found = {}
    for path in folder.iterdir():
        if path.is_dir():
            found |= {f"{path.name}/{name}": text for name, text in content(path).items()}
        else:
            found[path.name] = path.read_text()
    return found


WHOLE = {name: name for name in ("a", SEAL, "params/x", "params/d/y")}


def test_a_move_leaves_nothing_behind(root):
    fill(root / "checkpoints" / "2")
    fill(root / "checkpoints" / "20")
    storage.move(root / "checkpoints" / "2", root / "damaged" / "2", SEAL)
    assert content(root / "damaged") == {f"2/{name}": text for name, text in WHOLE.items()}
    assert content(root / "checkpoints") == {f"20/{name}": text for name, text in WHOLE.items()}
    storage.move(root / "damaged" / "2", root / "checkpoints" / "2", SEAL)
    assert content(root / "checkpoints" / "2") == WHOLE
    assert content(root / "damaged") == {}


def test_a_folder_with_a_seal_is_complete_whenever_the_move_is_killed(bucket, monkeypatch):
    source, target = bucket / "run" / "2", bucket / "run" / "replaced" / "2"
    store = backend.fsspec_backend.fs(os.fspath(source))
    for allowed in range(2 * len(WHOLE)):
        if target.exists():
            target.rmtree()
        fill(source)
        objects = iter(range(allowed))

        def dying(call, objects=objects):
            def one_by_one(*lists, **options):
                for names in zip(*lists, strict=True):
                    if next(objects, None) is None:
                        raise KeyboardInterrupt
                    call(*([name] for name in names), **options)

            return one_by_one

        with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
            for name in ("copy", "rm"):
                killed.setattr(store, name, dying(getattr(store, name)))
            storage.move(source, target, SEAL)
        store.invalidate_cache()
        sealed = [folder for folder in (source, target) if (folder / SEAL).exists()]
        assert sealed and all(content(folder) == WHOLE for folder in sealed)

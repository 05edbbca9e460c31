"""Resuming, refusing and removing duplicates, for any source."""

import gzip
import io
import json
import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from mixer import errors
from mixer.prepare import dataset, writing


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run(job, shards=None):
    """Prepares until `shards` shards are written; returns whether it is complete."""

    def stop():
        return shards is not None and len(list((job.work / writing.DONE).glob("*"))) >= shards

    return dataset.prepare(job, accept=lambda: None, stop=stop)


@pytest.mark.parametrize("kind", ["folder", "compressed"])
def test_a_stopped_preparation_is_resumed_with_the_same_result(
    kind, image_folder, images, tar, prepare, job, capsys
):
    path = image_folder if kind == "folder" else tar("a.tgz", images, "w:gz")
    source = f"{'folder' if kind == 'folder' else 'tar'}:{path}"
    expected = content(prepare(source))
    shutil.rmtree(job(source).target)
    count = sum("array_record" in name for name in expected)
    assert count > 4
    assert not run(job(source), 0)
    assert "stopped before the first shard" in capsys.readouterr().out
    assert not job(source).work.exists()
    for shards in (1, 2, count - 1):
        assert not run(job(source), shards)
        assert not job(source).target.exists()
        assert f"stopped: {shards} of {count} shards" in capsys.readouterr().out
    assert run(job(source))
    assert content(job(source).target) == expected


def test_finished_shards_are_kept_and_damaged_ones_rewritten(image_folder, prepare, job):
    source = f"folder:{image_folder}"
    expected = content(prepare(source))
    shutil.rmtree(job(source).target)
    assert not run(job(source), 4)
    made = sorted((job(source).work / writing.SHARDS).iterdir())
    assert len(made) == 4
    times = {path.name: path.stat().st_mtime_ns for path in made}
    made[1].write_bytes(made[1].read_bytes()[:-1] + b"?")
    made[2].unlink()
    (job(source).work / writing.PARTS / "half-written").write_text("x")
    assert run(job(source))
    assert content(job(source).target) == expected
    kept = [n for n, t in times.items() if (job(source).target / n).stat().st_mtime_ns == t]
    assert kept == [made[0].name, made[3].name]


def test_preparing_again_does_nothing(image_folder, prepare, job, capsys):
    source = f"folder:{image_folder}"
    folder = prepare(source)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert run(job(source))
    assert capsys.readouterr().out.startswith("complete: ")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_a_target_with_other_content_is_refused(image_folder, prepare, job):
    source = f"folder:{image_folder}"
    before = content(prepare(source))
    with pytest.raises(errors.BadInput, match="exists already, with other shard_bytes: choose"):
        run(job(source, shard_bytes=9999))
    (image_folder / "train" / "cat" / "0.png").touch()
    with pytest.raises(errors.BadInput, match="exists already, with other fingerprint"):
        run(job(source))
    assert content(job(source).target) == before


def test_a_changed_source_is_detected(image_folder, job, tar, images):
    source = f"folder:{image_folder}"
    assert not run(job(source), 1)
    (image_folder / "train" / "cat" / "new.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(errors.BadInput, match="unfinished preparation with other fingerprint"):
        run(job(source))
    assert job(source).work.exists()
    # So is a changed archive that a manifest names.
    path = tar("images/a.tar", images)
    (image_folder / "list.jsonl").write_text(
        "".join(json.dumps({"path": f"a.tar::{name}", "label": name[0]}) + "\n" for name in images)
    )
    listed = f"manifest:{image_folder / 'list.jsonl'}"
    assert not run(job(listed, "listed"), 1)
    os.utime(path, (1, 1))
    with pytest.raises(errors.BadInput, match="unfinished preparation with other .*a.tar"):
        run(job(listed, "listed"))


def test_an_image_that_changes_during_the_run_is_an_error(image_folder, job):
    source = job(f"folder:{image_folder}")
    image = image_folder / "train" / "cat" / "0.png"
    with pytest.raises(errors.Failure, match="1 images cannot be read: 'train/cat/0.png': 3 bytes"):
        dataset.prepare(source, accept=lambda: image.write_bytes(b"abc"), stop=lambda: False)


def test_two_processes_at_once_are_refused(image_folder, job):
    source = job(f"folder:{image_folder}")

    def meanwhile():
        with pytest.raises(errors.BadInput, match="another process is preparing"):
            run(source)

    assert dataset.prepare(source, accept=meanwhile, stop=lambda: False)


PNG = b"\x89PNG\r\n\x1a\n and so on"
BAD_TARS = {
    "member '../cat/a.png'|'../cat/a.png' leads out": {"../cat/a.png": PNG},
    "'cat/../../a.png' leads out": {"cat/../../a.png": PNG},
    "'/cat/a.png' has an absolute name": {"/cat/a.png": PNG},
    "member 'a.png' has no class": {"a.png": PNG},
    "members with and without a split": {"train/cat/a.png": PNG, "dog/a.png": PNG},
    "2 images cannot be used.*'cat/b.jpg': empty, 'cat/c.jpg': not an image: begins with b'<ht": {
        "dog/a.png": PNG,
        "cat/b.jpg": b"",
        "cat/c.jpg": b"<html>not found</html>",
    },
    "all images are of one class, 'photos'": {"photos/cat/a.png": PNG, "photos/dog/b.png": PNG},
    "the source has no images": {"cat/readme.txt": b"none"},
}


@pytest.mark.parametrize("message", BAD_TARS)
def test_bad_tars_are_refused_and_leave_nothing(message, job, tar):
    source = f"tar:{tar('bad.tar', BAD_TARS[message])}"
    with pytest.raises(errors.BadInput, match=message):
        run(job(source))
    assert not job(source).target.parents[1].exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_in_tars_are_refused(kind, job, tmp_path):
    with tarfile.open(tmp_path / "links.tar", "w") as file:
        link = tarfile.TarInfo("cat/link.png")
        link.type, link.linkname = kind, "/etc/passwd"
        file.addfile(link)
    with pytest.raises(errors.BadInput, match="member 'cat/link.png' is a link"):
        run(job(f"tar:{tmp_path / 'links.tar'}"))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_truncated_and_damaged_tars_are_refused(mode, job, tar, images, tmp_path):
    whole = tar("whole.tar", images).read_bytes()
    with tarfile.open(tmp_path / "whole.tar") as file:
        boundary = file.getmembers()[20].offset
    damaged = whole[: boundary + 20] + b"!" + whole[boundary + 21 :]
    contents = [whole[: boundary + 700], whole[: boundary + 100], whole[:boundary], damaged]
    if mode == "w:gz":
        contents = list(map(gzip.compress, contents))
        stored = gzip.compress(whole, 0)  # its pixels alone differ
        contents.append(stored[: boundary + 600] + b"other" + stored[boundary + 605 :])
    for content in contents:
        path = tmp_path / "cut.tar"
        path.write_bytes(content)
        with pytest.raises(errors.BadInput, match="cut.tar cannot be read as a tar"):
            run(job(f"tar:{path}"))


def test_images_with_the_same_name_are_refused(job, tar, images, tmp_path):
    path = tar("whole.tar", images)
    shutil.copy(path, tmp_path / "copy.tar")
    with pytest.raises(errors.BadInput, match="47 names occur twice.*and 42 more"):
        run(job(f"tar:{path},{tmp_path / 'copy.tar'}"))


BAD_MANIFESTS = {
    "line 2: path: '../a.png' leads out": '{"path": "../a.png", "label": "x"}',
    "'no.png': No such file": '{"path": "no.png", "label": "x"}',
    "line 2: expected either 'label' or 'labels'": '{"path": "a.png"}',
    "line 2: no 'path'": '{"file": "a.png", "label": "x"}',
    "line 2: labels 'x': expected a list": '{"path": "a.png", "labels": "x"}',
    "line 2: label 1.5: expected text": '{"path": "a.png", "label": 1.5}',
    "line 2: Expecting": '{"path": a.png}',
    "1 names occur twice.*'a.png'": '{"path": "./a.png", "label": "x", "split": "test"}',
    "split 'a-b'": '{"path": "b.png", "label": "x", "split": "a-b"}',
    "class 'two.nlines'": '{"path": "b.png", "label": "two\\nlines"}',
}


@pytest.mark.parametrize("message", BAD_MANIFESTS)
def test_bad_manifests_are_refused_with_the_line_number(message, job, tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PNG)
    manifest = tmp_path / "list.jsonl"
    manifest.write_text('{"path": "a.png", "label": "x"}\n' + BAD_MANIFESTS[message] + "\n")
    with pytest.raises(errors.BadInput, match=message):
        run(job(f"manifest:{manifest}"))
    assert not (tmp_path / "out").exists()


def test_labels_are_needed(job, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "list.csv").write_text("path,labels\na.png,\n")
    with pytest.raises(errors.BadInput, match="no image of the source has a label"):
        run(job(f"manifest:{tmp_path / 'list.csv'}"))


def test_negative_labels_are_refused(job, tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "list.csv").write_text("path,label\na.png,-1\n")
    with pytest.raises(errors.BadInput, match="integer labels from -1 to -1"):
        run(job(f"manifest:{tmp_path / 'list.csv'}"))


def test_imagenet_must_be_complete(job, tar, tmp_path):
    with pytest.raises(errors.BadInput, match="expected ILSVRC2012_img_train.tar"):
        job(f"imagenet:{tmp_path}")
    inner = tar("n01440764.tar", {"n01440764_1.JPEG": PNG}).read_bytes()
    tar("ILSVRC2012_img_train.tar", {"n01440764.tar": inner})
    tar("ILSVRC2012_img_val.tar", {"ILSVRC2012_val_1.JPEG": PNG})
    with pytest.raises(errors.BadInput, match="50,000 labels.* 1 images"):
        run(job(f"imagenet:{tmp_path}"))
    (tmp_path / "validation_labels.txt").write_text("n01440764")
    expected = (
        "1 in train and 1 in validation: expected 1,281,167 in train and 50,000 in validation"
    )
    with pytest.raises(errors.BadInput, match=expected):
        run(job(f"imagenet:{tmp_path}"))


def test_too_little_disk_space_is_refused_first(image_folder, job, monkeypatch):
    usage = shutil.disk_usage(image_folder)._replace(free=10**5)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(errors.BadInput, match="needs 0.00[0-9]* GB, but only 0.0001 GB are free"):
        run(job(f"folder:{image_folder}"))
    assert not job(f"folder:{image_folder}").target.parents[1].exists()


def test_training_images_of_test_sets_are_removed(image_folder, images, prepare, read, capsys):
    """By their bytes and by their pixels; the test split itself is unchanged."""
    whole = len(list(image_folder.glob("train/*/*.png")))
    folder = image_folder / "train" / "cat"
    same = images["test/dog/1.png"]
    (folder / "bytes.png").write_bytes(same)
    with Image.open(io.BytesIO(same)) as image:
        image.save(folder / "pixels.bmp")
        other = np.asarray(image).copy()
    other[0, 0, 0] ^= 1
    Image.fromarray(other).save(folder / "one_bit_off.png")
    # One example per shard, so that two shards end up empty.
    test_set = f"folder:{image_folder}:test[:50%],folder:{image_folder}:test[50%:]"
    made = prepare(f"folder:{image_folder}", dedup_against=test_set, shard_bytes=1)
    removed = [json.loads(line) for line in (made / "removed.jsonl").read_text().splitlines()]
    found = {(line["file_name"], line["split"], line["by"]) for line in removed}
    assert found == {
        ("train/cat/bytes.png", "train", "bytes"),
        ("train/cat/pixels.bmp", "train", "pixels"),
    }
    assert all("file test/dog/1.png" in line["equals"] for line in removed)
    assert len(read(made, "train")) == whole + 1 and len(read(made, "test")) == 12
    splits = dataset.summary(made)["splits"]
    assert (splits["train"]["examples"], splits["train"]["removed"]) == (whole + 1, 2)
    assert (splits["test"]["examples"], splits["test"]["removed"]) == (12, 0)


def test_test_sets_need_a_split(job, image_folder):
    with pytest.raises(errors.BadInput, match="'digits' names no split"):
        job(f"folder:{image_folder}", dedup_against="digits")


def test_unknown_kinds_are_refused(job):
    with pytest.raises(errors.BadInput, match="Did you mean 'folder:PATH'"):
        job("foldr:PATH")


def test_a_truncated_tar_inside_a_tar_does_not_run_into_the_next(job, tar, images):
    inner = tar("inner.tar", dict(list(images.items())[:6])).read_bytes()
    with tarfile.open(fileobj=io.BytesIO(inner)) as file:
        cut = inner[: file.getmembers()[5].offset]  # at a member boundary, without an end mark
    source = f"tar:{tar('outer.tar', {'cat.tar': cut, 'dog.tar': inner})}"
    with pytest.raises(errors.BadInput, match="a tar inside it is truncated"):
        run(job(source))

"""TFDS datasets whose labels are floats."""

import json
from pathlib import Path

import numpy as np
import object_server
import pytest
import tensorflow_datasets as tfds
from tfds_stand_ins import png

from mixer import errors
from mixer.data import sources
from mixer.data.sources import Reading, label_kinds, records, staging

COUNT = 6
FEATURES = {
    "image": tfds.features.Image(encoding_format="png"),
    "label": tfds.features.Scalar(np.float32),
    "wide": tfds.features.Scalar(np.float64),
    "colour": tfds.features.Tensor(shape=(3,), dtype=np.float32),
    "share": tfds.features.Tensor(shape=(2,), dtype=np.float64),
    "pair": tfds.features.Sequence(np.float32, length=2),
    "ragged": tfds.features.Sequence(np.float32),
    "matrix": tfds.features.Tensor(shape=(2, 2), dtype=np.float32),
}


def example(i):
    """Brightness i / COUNT as a number, a colour, and a share of two."""
    bright = np.float32(i / COUNT)
    return {
        "image": png(np.full((5, 4, 3), 255 * i // COUNT, np.uint8)),
        "label": bright,
        "wide": float(bright),
        "colour": np.full(3, 9 * bright, np.float32),
        "share": np.array([bright, 1 - bright], np.float64),
        "pair": [bright, bright],
        "ragged": [bright] * i,
        "matrix": np.full((2, 2), bright, np.float32),
    }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data_dir with `glow`."""
    place = tmp_path_factory.mktemp("bucket") / "data"
    splits = {"train": map(example, range(4)), "test": map(example, range(4, COUNT))}
    features = tfds.features.FeaturesDict(FEATURES)
    records.write_dataset(place / "glow" / "1.0.0", features, splits, "Glow.")
    return place


def opened(data_dir, key="", split="train", **reading):
    return sources.open_source("glow", split, data_dir, Reading(label_key=key, **reading))


@pytest.mark.parametrize(
    ("key", "kind", "names"),
    [
        ("", "values", ("label",)),
        ("wide", "values", ("wide",)),
        ("colour", "values", ("0", "1", "2")),
        ("share", "distribution", ("0", "1")),
        ("pair", "probabilities", ("0", "1")),
    ],
)
def test_they_are_vectors_by_their_own_records_and_staged(
    key, kind, names, data_dir, cache, tmp_path
):
    source = opened(data_dir, key)
    assert source.classes == names and label_kinds.of(source).kind == kind
    wanted = [np.ravel(np.float32(example(i)[key or "label"])).tolist() for i in range(4)]
    found = [source[i]["label"] for i in range(4)]
    assert list(map(list, found)) == wanted
    assert [each["label"] for each in source.read(1, 3)] == found[1:3]
    copy = staging.open_staged("glow", "train", data_dir, tmp_path / "fast", Reading(label_key=key))
    assert label_kinds.of(copy) == label_kinds.of(source) and copy.classes == names
    copy.stage([range(4)])
    assert [copy[i] for i in range(4)] == [source[i] for i in range(4)]
    assert copy.source.records is not source.records


def test_the_labels_are_read_once_to_learn_their_kind(data_dir, cache, capsys):
    said = "reading the labels of glow to learn what they are, once\n"
    for expected in (said, ""):
        opened(data_dir, "share", "test")
        assert capsys.readouterr().out == expected


def test_names_follow_the_models_order(data_dir, cache):
    turned = opened(data_dir, "share", classes=("1", "0"))
    assert turned.classes == ("1", "0")
    assert turned[1]["label"] == opened(data_dir, "share")[1]["label"][::-1]
    assert opened(data_dir, "share", classes=("dark", "light")).classes == ("dark", "light")


def described(data_dir, tmp_path, vectors):
    """A copy with such a record."""
    place = tmp_path / "bucket" / "data" / "glow" / "1.0.0"
    place.mkdir(parents=True)
    for file in (data_dir / "glow" / "1.0.0").iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    (place / "metadata.json").write_text(json.dumps({"vectors": vectors}))
    return place.parents[1]


def test_a_dataset_may_record_names_and_kind(data_dir, tmp_path, cache, monkeypatch):
    recorded = {"share": {"outputs": ["light", "dark"], "kind": "values"}}
    place = described(data_dir, tmp_path, recorded)
    local = opened(place, "share")
    assert local.classes == ("light", "dark") and local.label_kind == "values"
    assert not (cache / "labels").exists()  # nothing was read
    with object_server.as_google(place.parent, monkeypatch):
        remote = opened("gs://bucket/data", "share")
        assert (remote.classes, remote.label_kind) == (local.classes, "values")
        assert remote[2] == local[2]
        assert opened("gs://bucket/data")[2]["label"] == opened(place)[2]["label"]
        message = (
            'fetched from its bucket.*write {"vectors": {"pair": {"kind": "KIND"}}} into '
            "gs://bucket/data/glow/1.0.0/metadata.json"
        )
        with pytest.raises(errors.BadInput, match=message):
            opened("gs://bucket/data", "pair")


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ({"share": {"kind": "value"}}, "unknown kind of share in .*json 'value'. Did you mean"),
        ({"share": {"outputs": ["a"]}}, "the outputs of share are .'a'.: expected 2 names"),
        ({"share": {"outputs": ["a", "a"]}}, "expected 2 names"),
        ({"share": ["a", "b"]}, 'expected {"vectors": {"share": {"kind": "KIND"}}}'),
        ("share", 'expected {"vectors": '),
    ],
)
def test_a_record_that_does_not_fit_is_refused(vectors, message, data_dir, tmp_path, cache):
    with pytest.raises(errors.BadInput, match=message):
        opened(described(data_dir, tmp_path, vectors), "share")


@pytest.mark.parametrize("key", ["ragged", "matrix"])
def test_other_floats_are_no_labels(key, data_dir):
    with pytest.raises(
        errors.BadInput, match=f"its feature {key} is .*, not a label .*fixed number of"
    ):
        opened(data_dir, key)


def test_floats_are_named_if_no_feature_has_a_usual_name(data_dir, tmp_path):
    features = {name: FEATURES[name] for name in ("image", "share", "ragged")}
    examples = [{name: example(1)[name] for name in features}]
    place = Path(tmp_path) / "odd" / "1.0.0"
    records.write_dataset(place, tfds.features.FeaturesDict(features), {"train": examples}, "Odd.")
    with pytest.raises(errors.BadInput, match="set config.input.label_key=share$"):
        sources.open_source("odd", "train", tmp_path)

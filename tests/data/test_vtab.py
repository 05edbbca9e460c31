"""VTAB-1k's table, label rules and source against the protocol."""

import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tfds_stand_ins as stand_ins

from mixer import errors
from mixer.data import order, sources
from mixer.data.decode import Decoding, decode
from mixer.data.sources import vtab_tasks
from mixer.data.sources.splits import absolute_ranges
from mixer.data.sources.vtab_labels import bin_of

# Group, test images, classes, small or large images, crop, flip.
PROTOCOL = {
    "caltech101": ("natural", 6_084, 102, "L", True, True),
    "cifar100": ("natural", 10_000, 100, "S", True, True),
    "dtd": ("natural", 1_880, 47, "L", True, True),
    "flowers102": ("natural", 6_149, 102, "L", True, True),
    "pets": ("natural", 3_669, 37, "L", True, True),
    "sun397": ("natural", 21_750, 397, "L", True, True),
    "svhn": ("natural", 26_032, 10, "S", True, True),
    "patch_camelyon": ("specialized", 32_768, 2, "96", True, True),
    "eurosat": ("specialized", 5_400, 10, "S", True, True),
    "resisc45": ("specialized", 6_300, 45, "L", True, True),
    "diabetic_retinopathy": ("specialized", 42_670, 5, "L", True, True),
    "clevr_count": ("structured", 15_000, 8, "L", False, True),
    "clevr_distance": ("structured", 15_000, 6, "L", False, True),
    "dmlab": ("structured", 22_735, 6, "L", False, True),
    "kitti_distance": ("structured", 711, 4, "L", False, True),
    "dsprites_location": ("structured", 73_728, 16, "S", False, False),
    "dsprites_orientation": ("structured", 73_728, 16, "S", True, False),
    "smallnorb_azimuth": ("structured", 12_150, 18, "96", True, False),
    "smallnorb_elevation": ("structured", 12_150, 9, "96", True, True),
}
# {task: (share, examples)}: task_adaptation's 200 held-out examples start at this share of a split.
HELD_OUT = {
    "caltech101": (0.9, 3_060),
    "cifar100": (0.9, 50_000),
    "pets": (0.8, 3_680),
    "svhn": (0.9, 73_257),
    "eurosat": (0.6, 27_000),
    "resisc45": (0.6, 31_500),
    "clevr_count": (0.9, 70_000),
    "clevr_distance": (0.9, 70_000),
    "dsprites_location": (0.8, 737_280),
    "dsprites_orientation": (0.8, 737_280),
}


def examples_of(task, split):
    """The (TFDS split, index) pairs in a split of the protocol, in order."""
    return [
        (part, i)
        for part, chosen in absolute_ranges(task.builder, task.splits[split], task.sizes)
        for i in range(task.sizes[part])[chosen]
    ]


def test_the_table_matches_the_protocol():
    assert vtab_tasks.TASKS.keys() == PROTOCOL.keys()
    for name, task in vtab_tasks.TASKS.items():
        group, _, num_classes, size, crop, flip = PROTOCOL[name]
        assert (task.group, task.num_classes) == (group, num_classes), name
        assert task.resolution() == (224 if size == "S" else 448), name
        assert task.resolution(with_96=True) == (448 if size == "L" else 224), name
        for resolution, larger in ((224, 256), (448, 512)):
            first = f"resize({larger})|random_crop" if crop else "resize"
            last = "|flip_lr" if flip else ""
            assert task.train_transform(resolution) == first + last, name


@pytest.mark.parametrize("name", PROTOCOL)
def test_splits_are_800_and_200_and_the_test_set(name):
    task = vtab_tasks.TASKS[name]
    train, val, test = (examples_of(task, split) for split in ("train800", "val200", "test"))
    assert (len(train), len(val), len(test)) == (800, 200, PROTOCOL[name][1])
    assert len({*train, *val, *test}) == 1_000 + len(test)
    assert examples_of(task, "train1000") == train + val
    assert train == [("train", i) for i in range(800)]
    if name in HELD_OUT:
        share, size = HELD_OUT[name]
        assert val[0] == ("train", int(share * size)) and task.sizes["train"] == size


@pytest.mark.parametrize("name", PROTOCOL)
def test_the_installed_tfds_has_the_builder_and_its_features(name):
    task = vtab_tasks.TASKS[name]
    builder = stand_ins.builder_of(task.builder)
    assert builder.version == stand_ins.builder_of(task.builder.partition(":")[0]).version
    assert len(set(task.rule.names(builder.info.features))) == task.num_classes
    image = builder.info.features["image"]
    assert isinstance(image, tfds.features.Image)
    if None not in image.shape:
        assert min(image.shape[:2]) == task.side or min(image.shape[:2]) > 96 < task.side


def label(name, **record):
    return vtab_tasks.TASKS[name].rule(record)


def scene(*depths):
    return {"pixel_coords": [np.array([1, 2, depth], np.float32) for depth in depths]}


def street(*objects):
    kinds, metres = zip(*objects, strict=True) if objects else ((), ())
    return {"type": list(kinds), "location": [np.array([1, 2, z], np.float32) for z in metres]}


@pytest.mark.parametrize("count", range(3, 11))
def test_clevr_counts_the_objects(count):
    got = label("clevr_count", objects=scene(*range(count)))
    assert vtab_tasks.TASKS["clevr_count"].rule.classes[got] == str(count) and got == count - 3


@pytest.mark.parametrize(
    "depths, expected",
    [
        ([0.5, 12.0], 0),
        ([8.0], 0),
        ([8.01, 30.0], 1),
        ([9.0, 8.5], 1),
        ([8.6], 2),
        ([9.0], 2),
        ([9.5, 11.0], 3),
        ([9.75], 4),
        ([10.0], 4),
        ([10.01, 11.0], 5),
        ([0.0], -1),
        ([], -1),
    ],
)
def test_clevr_bins_the_nearest_objects_depth(depths, expected):
    assert label("clevr_distance", objects=scene(*depths)) == expected


@pytest.mark.parametrize(
    "objects, expected",
    [
        ([(0, 3.0)], 0),
        ([(1, -99.0)], 0),
        ([(2, 8.0)], 0),
        ([(0, 8.1), (3, 1.0)], 1),
        ([(0, 20.0)], 1),
        ([(0, 20.1), (1, 21.0)], 2),
        ([(0, 30.0), (2, 1.0)], 0),
        ([(0, 999.0)], 2),
        ([(3, 5.0), (4, 5.0), (5, 5.0), (6, 5.0), (7, 5.0)], 3),
        ([], 3),
    ],
)
def test_kitti_bins_the_nearest_vehicles_distance(objects, expected):
    assert label("kitti_distance", objects=street(*objects)) == expected


def test_dsprites_groups_positions_and_orientations():
    x = [label("dsprites_location", label_x_position=i) for i in range(32)]
    assert x == [np.floor(i / 2) for i in range(32)]
    turns = [label("dsprites_orientation", label_orientation=i) for i in range(40)]
    assert turns == [np.floor(i / 2.5) for i in range(40)]
    assert set(np.bincount(turns)) == {2, 3}
    names = vtab_tasks.TASKS["dsprites_orientation"].rule.classes
    for i, group in enumerate(turns):
        first, last = map(int, names[group].split("-"))
        assert first <= i <= last


def test_smallnorb_takes_the_stored_labels():
    record = {"label_azimuth": np.int64(17), "label_elevation": np.int64(8), "label_category": 1}
    assert label("smallnorb_azimuth", **record) == 17
    assert label("smallnorb_elevation", **record) == 8


def test_bins_match_the_definition():
    thresholds = [-1.0, 0.0, 2.5]
    for value in (-1.0, -0.5, 0.0, 1e-6, 2.5, 2.6, 1e9):
        below = [i for i, threshold in enumerate(thresholds) if threshold < value]
        assert bin_of(value, thresholds) == max(below, default=-1)


@pytest.mark.parametrize("name", ["clevr_distance", "kitti_distance", "smallnorb_azimuth"])
def test_the_source_reads_what_tfds_stored(name, tmp_path, monkeypatch):
    task = stand_ins.small_task(monkeypatch, name, tmp_path)
    known = tfds.builder(task.builder, data_dir=tmp_path, try_gcs=False).as_data_source("train")
    whole = sources.open_source(f"vtab:{name}", "train1000", tmp_path)
    whole = pickle.loads(pickle.dumps(whole))
    assert len(whole) == 32 and len(whole.classes) == task.num_classes
    for i in range(32):
        read = whole[i]
        expected = np.broadcast_to(known[i]["image"], decode(read["image"]).shape)
        np.testing.assert_array_equal(decode(read["image"]), expected)
        assert read["label"] == task.rule(known[i])
    parts = [sources.open_source(f"vtab:{name}", s, tmp_path) for s in ("train800", "val200")]
    read = [part[i] for part in parts for i in range(len(part))]
    assert read == [whole[i] for i in range(32)]
    assert "train1000, example 31" in whole.where(31)
    assert sources.fingerprint(whole) != sources.fingerprint(parts[0])


def test_images_have_three_channels_and_all_the_greys(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    ones = rng.integers(0, 2, (64, 64)).astype(np.uint8)
    examples = stand_ins.examples_of("dsprites:2.0.0", 40)
    for i, pixels in enumerate((ones, 2 * ones)):
        examples[i]["image"] = stand_ins.png(pixels)
    stand_ins.small_task(monkeypatch, "dsprites_location", tmp_path, examples)
    source = sources.open_source("vtab:dsprites_location", "train800", tmp_path)
    image = source[0]["image"]
    assert image.dtype == np.uint8 and image.shape == (64, 64, 3)
    np.testing.assert_array_equal(image, np.stack([255 * ones] * 3, axis=-1))
    with pytest.raises(ValueError, match="values up to 2: expected 0 and 1"):
        _ = source[1]
    # CLEVR's files have an alpha channel, which does not change colours in TensorFlow's decoding.
    assert source.published
    rgba = rng.integers(0, 256, (32, 48, 4)).astype(np.uint8)
    stored = vtab_tasks.TASKS["clevr_count"].image({"image": stand_ins.png(rgba).read()})
    np.testing.assert_array_equal(decode(stored, Decoding(as_tensorflow=True)), rgba[..., :3])


def test_wrong_datasets_tasks_and_splits_are_refused(tmp_path, monkeypatch):
    def refused(dataset, split, message, where=tmp_path):
        with pytest.raises(errors.BadInput, match=message):
            sources.open_source(dataset, split, where)

    refused("vtab:clevr_cuont", "test", "unknown VTAB-1k task 'clevr_cuont'. Did you mean 'clevr_c")
    refused("vtab:dtd", "train", "unknown split of vtab:dtd 'train'. .* test, train1000, train800")
    refused("vtab:dtd", "test", "dataset 'dtd:3.0.1' is not prepared .*download_and_prepare")
    full = vtab_tasks.TASKS["kitti_distance"]
    stand_ins.small_task(monkeypatch, "kitti_distance", tmp_path)
    monkeypatch.setitem(vtab_tasks.TASKS, "kitti_distance", full)
    refused("vtab:kitti_distance", "test", "has 40 examples in train, expected 6,347")


def test_a_dataset_of_the_right_size_is_read(data_dir):
    train, test = (
        sources.open_source("vtab:caltech101", s, data_dir) for s in ("train1000", "test")
    )
    assert (len(train), len(test)) == (1_000, 6_084)
    # The stand-in's labels are the examples' numbers modulo 102.
    assert [train[i]["label"] for i in (0, 799, 800, 999)] == [0, 799 % 102, 2754 % 102, 2953 % 102]
    assert train.where(800).endswith("train1000, example 800, file image_2754.jpg")


def test_a_version_other_than_the_protocols_is_reported(tmp_path, monkeypatch):
    for name, said in (("pets", "version 4.0.0 but 3 in the protocol"), ("dtd", "")):
        task = stand_ins.small_task(monkeypatch, name, tmp_path)
        line = sources.summary(sources.open_source(f"vtab:{name}", "val200", tmp_path))
        assert f"vtab:{name} val200: 8 images, {task.num_classes} classes: " in line
        assert said in line and ("protocol" in line) == bool(said)


def test_512_of_1000_images_are_repeated_and_reshuffled():
    """A batch continues where the last one ended; each pass has every image, in its own order."""
    draws = order.Full(1000, seed=3)
    passes = np.array([draws[i] for i in range(6 * 512)])[:3000].reshape(3, 1000)
    assert (np.sort(passes, axis=1) == np.arange(1000)).all()
    assert len({tuple(images) for images in passes}) == 3


def test_means_are_plain_means_over_tasks():
    rng = np.random.default_rng(0)
    accuracies = dict(zip(vtab_tasks.TASKS, rng.random(19).tolist(), strict=True))
    values = np.array([accuracies[name] for name in PROTOCOL])
    groups = np.array([row[0] for row in PROTOCOL.values()])
    got = vtab_tasks.means(accuracies)
    assert got.pop("mean") == pytest.approx(values.mean())
    assert {group: (groups == group).sum() for group in got} == {
        "natural": 7,
        "specialized": 4,
        "structured": 8,
    }
    for group, mean in got.items():
        assert mean == pytest.approx(values[groups == group].mean())
    del accuracies["resisc45"]
    partly = vtab_tasks.means(accuracies)
    assert partly["mean"] is None and partly["specialized"] is None
    assert partly["natural"] == got["natural"] and partly["structured"] == got["structured"]
    with pytest.raises(errors.BadInput, match="unknown VTAB-1k task 'cifar10'"):
        vtab_tasks.means({"cifar10": 0.9})

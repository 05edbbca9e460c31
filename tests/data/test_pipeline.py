import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from PIL import Image

from mixer import batch as batch_lib
from mixer.data import order as order_lib
from mixer.data import pipeline, sources, transforms, turbojpeg

BATCH = 32


@pytest.fixture
def make_rows(data_dir):
    source = sources.open_source("digits", "train", data_dir)
    transform = transforms.parse("inception_crop|flip_lr", (12, 12))

    def make(rows=range(BATCH), order=True, source=source, seed=3, batch_size=BATCH, **options):
        return pipeline.Rows(
            source=source,
            transform=transform,
            order=order_lib.Full(len(source), seed) if order else None,
            seed=seed,
            batch_size=batch_size,
            rows=rows,
            padding=batch_lib.padding((12, 12)),
            **options,
        )

    return make


def collect(rows, start=0, stop=6, threads=2, workers=0):
    made = pipeline.batches(rows, start=start, stop=stop, threads=threads, workers=workers)
    return [{k: np.array(v) for k, v in batch.items() if k != "skipped"} for batch in made]


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_batches_keep_the_contract(make_rows):
    for batch in collect(make_rows(), stop=2):
        spec = batch_lib.spec(BATCH, (12, 12))
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            k: (v.shape, v.dtype) for k, v in spec.items()
        }
        assert batch["mask"].all()


def test_threads_change_nothing(make_rows):
    assert_same(collect(make_rows(), threads=1), collect(make_rows(), threads=5))


def test_starting_at_a_step_is_that_step_of_the_whole(make_rows):
    assert_same(collect(make_rows())[4:], collect(make_rows(), start=4))


def test_hosts_make_parts_of_the_same_batches(make_rows):
    whole = collect(make_rows())
    hosts = [[0, 1, 2, 3, 16, 17, 18, 19], list(range(4, 16)), list(range(20, 32))]
    for rows in hosts:
        part = collect(make_rows(rows))
        assert_same(part, [{k: v[rows] for k, v in batch.items()} for batch in whole])


def test_seeds_and_epochs_differ(make_rows):
    first = collect(make_rows(seed=3), stop=1)[0]
    other = collect(make_rows(seed=4), stop=1)[0]
    assert not np.array_equal(first["label"], other["label"])
    order = order_lib.Full(1437, 3)
    epochs = [[order[e * 1437 + i] for i in range(1437)] for e in range(3)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for epoch in epochs:
        assert sorted(epoch) == list(range(1437)), "an epoch sees each example once"
    # A seed's second epoch is not its neighbour's first.
    assert [order_lib.Full(1437, 4)[i] for i in range(1437)] != epochs[1]


def test_augmentation_differs_from_epoch_to_epoch(data_dir, make_rows):
    source = sources.open_source("digits", "train[:8]", data_dir)
    rows = make_rows(range(8), source=source, batch_size=8)
    first, second = collect(rows, stop=2)
    by_label = [b["image"][np.argsort(b["label"], kind="stable")] for b in (first, second)]
    np.testing.assert_array_equal(np.sort(first["label"]), np.sort(second["label"]))
    assert not np.array_equal(*by_label)


def test_evaluation_counts_every_example_once(data_dir, make_rows):
    source = sources.open_source("digits", "test[:70]", data_dir)
    rows = make_rows(order=False, source=source)
    assert pipeline.steps_per_pass(source, BATCH) == 3
    made = collect(rows, stop=3)
    mask = np.concatenate([b["mask"] for b in made])
    labels = np.concatenate([b["label"] for b in made])
    assert mask.sum() == 70 and mask[:70].all()
    np.testing.assert_array_equal(labels[:70], [source[i]["label"] for i in range(70)])
    assert (labels[70:] == -1).all()


def test_a_bad_file_is_named(image_folder, make_rows):
    Image.new("RGB", (3, 3)).save(image_folder / "train" / "cat" / "0.png")
    (image_folder / "train" / "dog" / "3.png").write_bytes(b"not an image")
    source = sources.open_source(f"folder:{image_folder}", "train")
    with pytest.raises(
        pipeline.BadExample, match=r"folder:.*split train, example \d+, file train/dog/3.png"
    ):
        collect(make_rows(source=source), stop=3)


def test_images_of_the_wrong_kind_are_named_and_never_skipped(data_dir, make_rows):
    digits = sources.open_source("digits", "train", data_dir)

    class Floats(type(digits)):
        def __getitem__(self, index):
            return super().__getitem__(index) | {"image": np.ones((28, 28, 3), np.float32)}

    rows = make_rows(source=Floats(**vars(digits)), skip_bad=True)
    message = (
        r"digits, split train, example \d+: its image is float32 \[28, 28, 3\]: expected uint8"
    )
    with pytest.raises(pipeline.BadExample, match=message):
        collect(rows, stop=1)


def test_damage_below_the_crops_is_found_in_the_first_epoch(image_folder, make_rows):
    """Later epochs do not check for it, unless damaged images are skipped."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    broken = file.getvalue()[:-9000] + b"\xff\xd9"
    source = sources.open_source(f"folder:{image_folder}", "train")
    first, later = 0, len(source)

    def top(rows, count):
        return rows.opened(broken, count).window(0, 0, 8, 300)

    for rows, count in (
        (make_rows(source=source), first),
        (make_rows(source=source), later - 1),
        (make_rows(source=source, skip_bad=True), later),
        (make_rows(source=source, order=False), later),
    ):
        with pytest.raises(ValueError, match="image, the JPEG is damaged"):
            top(rows, count)
    if turbojpeg.available():
        assert top(make_rows(source=source), later).shape == (8, 300, 3)


def skipped(rows):
    made = pipeline.batches(rows, start=0, stop=3, threads=3, workers=0)
    return sum(int(batch["skipped"].sum()) for batch in made)


def test_in_training_the_next_example_stands_in_for_a_bad_one(image_folder, make_rows):
    (image_folder / "train" / "dog" / "3.png").write_bytes(b"")
    (image_folder / "train" / "eel" / "1.png").write_bytes(b"not an image")
    source = sources.open_source(f"folder:{image_folder}", "train")
    rows = make_rows(source=source, skip_bad=True)
    batches = collect(rows, stop=3)
    assert_same(batches, collect(rows, stop=3, threads=1))
    order = order_lib.Full(len(source), 3)
    at = [order[count] for count in range(3 * BATCH)]
    bad = [
        i
        for i, (file, _) in enumerate(source.files)
        if file in ("train/dog/3.png", "train/eel/1.png")
    ]
    good = [i for i in range(len(source)) if i not in bad]
    stands_in = [next(j % len(source) for j in range(i, 99) if j % len(source) in good) for i in at]
    labels = np.concatenate([batch["label"] for batch in batches])
    np.testing.assert_array_equal(labels, [source.files[i][1] for i in stands_in])
    assert all(batch["mask"].all() for batch in batches)
    steps = [(new - old) % len(source) for old, new in zip(at, stands_in, strict=True)]
    assert skipped(rows) == sum(steps) > 0


def test_in_evaluation_a_bad_example_is_left_out(image_folder, make_rows):
    (image_folder / "test" / "dog" / "3.png").write_bytes(b"")
    source = sources.open_source(f"folder:{image_folder}", "test")
    rows = make_rows(order=False, source=source, skip_bad=True, batch_size=6, rows=range(6))
    mask = np.concatenate([batch["mask"] for batch in collect(rows, stop=2)])
    bad = [i for i, (file, _) in enumerate(source.files) if file == "test/dog/3.png"]
    np.testing.assert_array_equal(np.flatnonzero(~mask), bad)
    made = pipeline.batches(rows, start=0, stop=2, threads=3, workers=0)
    assert sum(int(batch["skipped"].sum()) for batch in made) == 1


def test_a_dataset_of_bad_examples_ends_the_run(image_folder, make_rows):
    for file in (image_folder / "train").rglob("*.png"):
        file.write_bytes(b"")
    source = sources.open_source(f"folder:{image_folder}", "train")
    with pytest.raises(pipeline.BadExample, match="100 unusable examples in a row"):
        collect(make_rows(source=source, skip_bad=True), stop=1)


def test_a_damaged_record_is_named_or_passed_over(data_dir, make_rows):
    """ArrayRecord raises RuntimeError for a wrong hash."""
    source = sources.open_source("digits", "train", data_dir)

    class Damaged(type(source)):
        def __getitem__(self, index):
            if index == 7:
                raise RuntimeError("chunk data hash mismatch")
            return super().__getitem__(index)

        def where(self, index):
            return super().where(index) if index != 7 else self[index]

    rows = make_rows(order=False, source=Damaged(**vars(source)))
    with pytest.raises(pipeline.BadExample, match="digits, split train, example 7: chunk data"):
        collect(rows, stop=1)
    rows = make_rows(order=False, source=Damaged(**vars(source)), skip_bad=True)
    assert list(np.flatnonzero(~collect(rows, stop=1)[0]["mask"])) == [7]


def test_workers_need_no_jax(data_dir):
    """What a worker imports: the pickled rows and what they refer to."""
    script = f"""
        import sys
        sys.modules["jax"] = None
        import numpy as np
        from pathlib import Path
        from mixer.data import order, pipeline, sources, transforms
        source = sources.open_source("digits", "train", Path({str(data_dir)!r}))
        padding = {{"image": np.zeros((8, 8, 3), np.uint8), "label": np.int32(-1), "mask": False}}
        transform = transforms.parse("resize", (8, 8))
        rows = pipeline.Rows(source, transform, order.Full(9, 0), 0, 4, range(4), padding)
        made = list(pipeline.batches(rows, start=0, stop=2, threads=1, workers=0))
        assert len(made) == 2 and made[0]["image"].shape == (4, 8, 8, 3)
        assert "tensorflow" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)

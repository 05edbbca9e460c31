import functools

import numpy as np
import pytest

from mixer import batch as batch_lib
from mixer.benchmark import grain_pipeline
from mixer.data import decode, pipeline, transforms


@pytest.mark.parametrize("threads", [1, 3])
def test_an_epoch_has_each_example_once_with_its_own_pixels(threads):
    count, batch_size = 10, 4
    # Example i is all of colour 20 * i, which neither a crop nor a flip changes.
    examples = [{"image": np.full((9, 7, 3), 20 * i, np.uint8), "label": i} for i in range(count)]
    made = grain_pipeline.batches(
        examples,
        functools.partial(decode.opened, decoding=decode.UPRIGHT),
        transforms.parse("inception_crop|flip_lr", (5, 6)),
        functools.partial(
            pipeline.label_row, padding=batch_lib.padding((5, 6))["label"], num_classes=count
        ),
        seed=3,
        batch_size=batch_size,
        threads=threads,
    )
    two_epochs = [next(made) for _ in range(2 * count // batch_size)]
    made.close()
    for batch in two_epochs:
        assert (batch["image"].shape, batch["image"].dtype) == ((batch_size, 5, 6, 3), np.uint8)
        assert (batch["label"].shape, batch["label"].dtype) == ((batch_size,), np.int32)
        same = batch["label"][:, None, None, None] * 20
        np.testing.assert_array_equal(batch["image"], np.broadcast_to(same, batch["image"].shape))
    labels = np.concatenate([batch["label"] for batch in two_epochs])
    first, second = labels[:count].tolist(), labels[count:].tolist()
    assert sorted(first) == sorted(second) == list(range(count)) and first != second

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from mixer.benchmark import input_pipeline
from mixer.data import transforms
from mixer.data.decode import Encoded


@pytest.mark.parametrize("text", ["inception_crop|flip_lr", "resize|flip_lr", "resize"])
@pytest.mark.parametrize("kind", ["file", "array"])
def test_every_stage_processes_every_image(text, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    asked, put = [], []

    def read(index):
        asked.append(index)
        return file.getvalue() if kind == "file" else pixels

    spent = input_pipeline.stages(
        read,
        Encoded if kind == "file" else lambda image: image,
        [transforms.Chain((t,)) for t in transforms.parse(text, (8, 8)).transforms],
        put.append,
        range(10),
        4,
    )
    assert (
        asked == list(range(10)) and [batch["image"].shape for batch in put] == [(4, 8, 8, 3)] * 2
    )
    assert tuple(spent) == input_pipeline.STAGES
    assert all(spent[name] > 0 for name in ("read", "augment", "batch", "transfer"))


@pytest.mark.parametrize("ahead", [0, 3])
@pytest.mark.parametrize("workers", [1, 4])
def test_the_steady_rate_is_that_of_the_workers(workers, ahead, monkeypatch):
    """A worker takes two seconds for a batch, and has made `ahead` when it is first asked."""
    now = [0.0]
    monkeypatch.setattr(input_pipeline.time, "perf_counter", lambda: now[0])

    def made():
        for count in itertools.count():
            # Batch b is the (b // workers)th of its worker, all of which begin at 10 s.
            now[0] = max(now[0], 10 + 2 * max(0, count // workers + 1 - ahead))
            yield count

    rate = input_pipeline.steady_rate(made(), workers, seconds=40)
    assert rate == pytest.approx(workers / 2)

import io

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

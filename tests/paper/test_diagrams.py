"""The curves of a training show what its log says."""

import json

import numpy as np
import pytest
from PIL import Image

from mixer.paper import diagrams
from mixer.runs import curves


def log(steps):
    for step in range(10, 10 * steps + 1, 10):
        rate = {"train/learning_rate": 1 / step, "train/grad_norm": 5.0}
        yield {"step": step, "train/loss": 3 - step / 100, "train/accuracy": step / 500} | rate
        if step % 50 == 0:
            yield {"step": step, "test/top1": step / 400, "test/nll": 2.0, "few/a/5shot": 0.5}


def test_every_point_of_the_log_is_on_its_curve():
    lines = list(log(12))
    panels = {axes.get_title(): axes for axes in diagrams.curves(lines).axes}
    drawn = {
        panel: {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
        for panel, axes in panels.items()
    }
    names = {
        "loss": {"train/loss", "test/nll"},
        "accuracy": {"train/accuracy", "test/top1", "few/a/5shot"},
        "learning rate": {"train/learning_rate"},
    }
    assert {panel: set(found) for panel, found in drawn.items()} == names
    for found in drawn.values():
        for name, points in found.items():
            assert points == [[line["step"], line[name]] for line in lines if name in line]


@pytest.mark.parametrize("steps", [9, 12])
def test_a_short_training_has_no_curves(steps, tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in log(steps)))
    curves.write(tmp_path)
    assert (tmp_path / "curves.png").exists() == (steps == 12)
    if steps == 12:
        with Image.open(tmp_path / "curves.png") as image:
            assert image.width > 2 * image.height and np.asarray(image.convert("L")).std() > 5


def test_a_training_outlives_curves_that_cannot_be_drawn(tmp_path, monkeypatch, capsys):
    lines = [json.dumps({"step": i, "train/loss": 1.0}) for i in range(12)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    monkeypatch.setattr(diagrams, "curves", lambda log: 1 / 0)
    curves.write(tmp_path)
    assert "curves.png was not drawn: division by zero" in capsys.readouterr().out
    assert not (tmp_path / "curves.png").exists()

"""ImageNet's other test sets, measured with its own."""

import tfds_stand_ins as stand_ins

from configs import imagenet, robustness
from mixer.runs.training import build_training


def test_they_are_measured_when_they_get_a_split(tmp_path):
    stand_ins.write(tmp_path, "imagenet2012", {"train": stand_ins.examples_of("imagenet2012", 16)})
    config = imagenet.get_config("Mixer-S/16,32")
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    config.batch_size, config.total, config.schedule.warmup = 8, "10 steps", "1 steps"
    config.input.split, config.runtime.data_dir = "train", str(tmp_path)
    for entry in config.evaluators.values():
        entry.update(split="", batch_size=8, every="5 steps")
    assert build_training(config).evaluations == []
    for name in robustness.evaluators(config, "resize", "5 steps"):
        entry = config.evaluators[name]
        examples = stand_ins.examples_of(entry.dataset, 2)
        stand_ins.write(tmp_path, entry.dataset, {"test": examples})
        entry.split = "test"
    found = {e.name: e.reader.source.name for e in build_training(config).evaluations}
    assert found == {
        "v2": "imagenet_v2/matched-frequency",
        "a": "imagenet_a",
        "r": "imagenet_r",
        "sketch": "imagenet_sketch",
    }


def test_a_smoke_test_reads_only_digits():
    assert "a" not in imagenet.get_config("smoke").evaluators

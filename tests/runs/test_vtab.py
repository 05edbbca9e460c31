"""VTAB-1k's recipe, and a step and an evaluation of each task."""

import jax
import numpy as np
import pytest
import tfds_stand_ins as stand_ins

from configs import vtab
from mixer import errors
from mixer.data import transforms
from mixer.data.sources.vtab_tasks import TASKS
from mixer.runs.training import build_training
from mixer.training import step

SMALL = {"cifar100", "svhn", "eurosat", "dsprites_location", "dsprites_orientation"}
TINY = {"num_blocks": 1, "hidden_dim": 8, "tokens_mlp_dim": 8, "channels_mlp_dim": 8}


@pytest.mark.parametrize("name", TASKS)
def test_the_recipe_is_the_papers(name):
    config = vtab.get_config(f"Mixer-L/16,{name}")
    assert config.dataset == f"vtab:{name}" and config.input.split == "train1000"
    assert config.image_size == ((224, 224) if name in SMALL else (448, 448))
    assert config.batch_size == 512 and config.total == "2_500 steps"
    expected = {"base": 0.01, "decay": "cosine", "end": 0, "warmup": "200 steps"}
    expected |= {"cooldown": "0 steps", "timescale": config.schedule.timescale}  # of rsqrt only
    assert config.schedule.to_dict() == expected
    assert config.optimizer.name == "sgd(momentum=0.9)" and config.optimizer.clip_norm == 1
    assert config.optimizer.weight_decay == 0 and config.loss == "softmax_xent"
    assert config.mixup == 0 and config.label_smoothing == 0 and config.model.dropout == 0
    assert config.model.stochastic_depth == 0 and config.model.head_bias_init == 0
    assert config.model.name == "Mixer-L/16" and config.evaluators.test.every == config.total
    for text in (config.input.transform, config.evaluators.test.transform):
        transforms.parse(text, config.image_size)


def test_words_name_tasks_and_resolutions():
    config = vtab.get_config("224,Mixer-S/32,patch_camelyon")
    assert config.image_size == (224, 224)
    assert config.input.transform == "resize(256)|random_crop|flip_lr"
    assert vtab.get_config("vtab:svhn").to_dict() == vtab.get_config("svhn").to_dict()
    with pytest.raises(errors.BadInput, match="'patch_camelion'. Did you mean 'patch_camelyon'"):
        vtab.get_config("patch_camelion")
    with pytest.raises(errors.BadInput, match="unknown VTAB-1k task 'cifar10'"):
        vtab.get_config("cifar10")


def test_the_rate_is_chosen_on_200_images(data_dir):
    config = vtab.get_config("caltech101,32,Mixer-S/32")
    config.model.update(TINY)
    config.init_from = "random"
    training = build_training(config)
    assert [e.name for e in training.evaluations] == ["test"]
    assert training.total == 2500 and training.epochs == 1280
    config.input.split = "train800"
    config.evaluators.dev.split, config.evaluators.test.split = "val200", ""
    chosen = build_training(config)
    (dev,) = chosen.evaluations
    assert dev.name == "dev" and len(dev.reader.source) == 200
    assert len(chosen.reader.source) == 800
    assert dev.every == chosen.total  # once, at the end


def training_of(name, monkeypatch, data_dir):
    """A task of few examples with a small model."""
    stand_ins.small_task(monkeypatch, name, data_dir)
    config = vtab.get_config(f"{name},32,Mixer-S/16")
    config.model.update(TINY)
    config.init_from = "random"
    config.batch_size = config.evaluators.test.batch_size = 16
    config.runtime.data_dir = str(data_dir)
    return build_training(config)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A step, an evaluator's update and a state, for as many classes as any task has."""
    with pytest.MonkeyPatch.context() as patch:
        training = training_of("sun397", patch, tmp_path_factory.mktemp("sun397"))
    state = training.update.create_state()
    made = training.update.compile()
    return step.guarded(made), training.evaluations[0].update, state


@pytest.mark.long
@pytest.mark.parametrize("name", TASKS)
def test_a_step_and_an_evaluation_of_each_task(name, compiled, tmp_path, monkeypatch):
    train, evaluate, state = compiled
    training = training_of(name, monkeypatch, tmp_path)
    source = training.reader.source
    with training.reader.batches(0, 1) as batches:
        batch = next(batches)
    drawn = training.reader.rows.order
    assert batch["label"].tolist() == [source[drawn[i]]["label"] for i in range(16)]
    assert batch["label"].max() < training.card.model["num_classes"] == TASKS[name].num_classes
    state, metrics = train(jax.tree.map(lambda x: x.copy(), state), batch)
    assert float(metrics["loss"]) == pytest.approx(np.log(397), rel=1e-5)  # the head starts at 0
    (test,) = training.evaluations
    totals = [evaluate(state.params, batch) for batch in test.reader.batches()]
    assert sum(int(part.top1.count) for part in totals) == len(test.reader.source) == 8

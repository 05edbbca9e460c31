"""The fine-tuning recipe against the paper's protocol, and how it uses `init_from`."""

import jax
import numpy as np
import pytest
import tfds_stand_ins as stand_ins

import mixer
from configs import finetune, sweep
from mixer import errors
from mixer.data import sources, transforms
from mixer.data.sources.splits import absolute_ranges
from mixer.runs import grid, keys
from mixer.runs.evaluations import evaluation_transform
from mixer.runs.training import build_training
from mixer.training import step
from mixer.weights import formats

pytestmark = pytest.mark.usefixtures("one_device")

CIFAR = {"train": 50_000, "test": 10_000}
# Splits as TFDS has them, images to train on, without dev, dev, test; steps, warm-up.
PROTOCOL = {
    "imagenet2012": (
        {"train": 1_281_167, "validation": 50_000},
        (1_281_167, 1_268_355, 12_812, 50_000),
        (20_000, 500),
    ),
    "cifar10": (CIFAR, (50_000, 49_000, 1_000, 10_000), (10_000, 500)),
    "cifar100": (CIFAR, (50_000, 49_000, 1_000, 10_000), (10_000, 500)),
    "oxford_iiit_pet": (
        {"train": 3_680, "test": 3_669},
        (3_680, 3_312, 368, 3_669),
        (500, 100),
    ),
    "oxford_flowers102": (
        {"train": 1_020, "validation": 1_020, "test": 6_149},
        (2_040, 1_836, 204, 6_149),
        (500, 100),
    ),
}


def images(sizes, split):
    """{(part, index)} of a split."""
    return {
        (part, i)
        for part, chosen in absolute_ranges("", split, sizes)
        for i in range(sizes[part])[chosen]
    }


@pytest.mark.parametrize("dataset", PROTOCOL)
def test_the_recipe_is_the_papers(dataset):
    config = finetune.get_config(f"Mixer-L/16,{dataset}", "sweep")
    sizes, counts, (steps, warmup) = PROTOCOL[dataset]
    whole, part, dev, test = (
        images(sizes, split)
        for split in (
            config.input.split,
            config.sweep.train,
            config.sweep.dev,
            config.evaluators.test.split,
        )
    )
    assert tuple(map(len, (whole, part, dev, test))) == counts
    assert part | dev == whole and not part & dev and not test & whole
    assert int(config.total.split()[0].replace("_", "")) == steps
    assert config.schedule.warmup == f"{warmup} steps"
    assert grid.read(config.sweep.grid) == {"schedule.base": (0.003, 0.01, 0.03, 0.06)}
    assert config.schedule.base == 0.03
    assert config.sweep.retrain and len(config.sweep.seeds) == 3
    assert config.schedule.decay == "cosine" and config.schedule.end == 0
    assert config.batch_size == 512 and config.optimizer.name == "sgd(momentum=0.9)"
    assert config.optimizer.clip_norm == 1 and config.optimizer.weight_decay == 0
    assert config.loss == "softmax_xent" and config.label_smoothing == 0 and config.mixup == 0
    assert config.model.dropout == config.model.stochastic_depth == config.ema_decay == 0
    assert config.init_from == "Mixer-L/16:imagenet21k" and config.init_head == "reset"
    assert config.evaluators.dev.split == "" and config.evaluators.test.every == config.total
    changed = sweep.get_config(f"Mixer-L/16,{dataset}")
    assert changed.run == "sweep"
    assert changed.to_dict() == config.to_dict()


@pytest.mark.parametrize(
    "size, larger, shape", [(224, 256, "resize_small"), (384, 448, "resize"), (448, 512, "resize")]
)
def test_images_are_cropped_from_eight_sevenths(size, larger, shape):
    config = finetune.get_config(f"cifar10,{size}")
    assert config.input.transform == f"resize({larger})|random_crop|flip_lr"
    assert config.evaluators.test.transform == f"{shape}({larger})|central_crop"
    for text in (config.input.transform, config.evaluators.test.transform):
        transforms.parse(text, config.image_size)


def test_bits_test_images_of_imagenet_become_squares():
    for dataset, shape in (("imagenet2012", "resize"), ("cifar10", "resize_small")):
        config = finetune.get_config(f"BiT-R50x1,{dataset},224")
        assert config.evaluators.test.transform == f"{shape}(256)|central_crop"


def test_a_folder_without_test_images_is_cut_in_three(image_folder):
    config = finetune.get_config(f"folder:{image_folder}", "sweep")
    measured = sources.split_to_measure(config.dataset, trained_on=config.dataset)
    assert config.evaluators.test.split == "auto"
    assert config.input.split == "train" and measured == "test"
    (image_folder / "test").rename(image_folder / "unseen")
    config = finetune.get_config(f"folder:{image_folder}", "sweep")
    sizes = {"train": 100}
    train, part, dev, test = (
        images(sizes, split)
        for split in (
            config.input.split,
            config.sweep.train,
            config.sweep.dev,
            sources.split_to_measure(config.dataset, trained_on=config.dataset),
        )
    )
    assert config.evaluators.test.split == "auto"
    assert part | dev == train and train | test == images(sizes, "train")
    assert not part & dev and not train & test and len(dev) == len(test) == 10


def training_of(dataset, sizes, data_dir):
    """The recipe with a small model on a stand-in for the dataset."""
    examples = {name: stand_ins.examples_of(dataset, size) for name, size in sizes.items()}
    stand_ins.write(data_dir, dataset, examples)
    config = finetune.get_config(f"Mixer-S/16,{dataset},32")
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    config.init_from, config.runtime.data_dir = "random", str(data_dir)
    config.batch_size = config.evaluators.test.batch_size = 16
    return build_training(config)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A step, an evaluator's update and a state, for as many classes as any of them has."""
    sizes = {"train": 16, "validation": 16}
    training = training_of("imagenet2012", sizes, tmp_path_factory.mktemp("imagenet"))
    state = training.update.create_state()
    made = training.update.compile()
    return step.guarded(made), training.evaluations[0].update, state


@pytest.mark.parametrize("dataset", PROTOCOL)
def test_a_step_and_an_evaluation_of_each_dataset(dataset, compiled, tmp_path):
    train, evaluate, state = compiled
    sizes = {name: 24 for name in PROTOCOL[dataset][0]}
    training = training_of(dataset, sizes, tmp_path)
    classes = stand_ins.builder_of(dataset).info.features["label"].num_classes
    assert training.card.model["num_classes"] == classes
    with training.reader.batches(0, 1) as batches:
        batch = next(batches)
    source, drawn = training.reader.source, training.reader.rows.order
    assert batch["label"].tolist() == [source[drawn[i]]["label"] for i in range(16)]
    assert len(source) == 24 * (len(sizes) - 1)
    _, metrics = train(jax.tree.map(lambda x: x.copy(), state), batch)
    assert float(metrics["loss"]) == pytest.approx(np.log(1000), rel=1e-5)  # the head starts at 0
    (test,) = training.evaluations
    totals = [evaluate(state.params, batch) for batch in test.reader.batches()]
    assert sum(int(part.top1.count) for part in totals) == len(test.reader.source) == 24


@pytest.fixture
def small(data_dir):
    """The recipe with a small model on the digits."""
    config = finetune.get_config("Mixer-S/16,digits,32")
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    config.batch_size = config.evaluators.test.batch_size = 16
    return config


def test_it_starts_from_weights_with_a_new_head(small, tmp_path, monkeypatch):
    """The head is new even if the stored one has the right shape for the digits."""
    file = tmp_path / "start.npz"
    fields = small.model.to_dict() | {"num_classes": 10}
    model = mixer.create_model(fields.pop("name"), **fields)
    start = model.init(jax.random.key(7), np.zeros((1, 32, 32, 3)))["params"]
    start["head"] = jax.tree.map(lambda x: x + 1, start["head"])
    mixer.save_pretrained(file, start, model)
    small.init_from = str(file)
    read, count = formats.read, []
    monkeypatch.setattr(formats, "read", lambda path: count.append(path) or read(path))
    params, upstream = build_training(small).initial()
    assert len(count) == 2  # to know the image size, and to begin
    assert not params["head"]["kernel"].any() and not params["head"]["bias"].any()
    np.testing.assert_array_equal(params["stem"]["kernel"], start["stem"]["kernel"])
    assert upstream["path"] == str(file)
    small.init_head = "keep"
    kept = build_training(small).initial()[0]
    np.testing.assert_array_equal(kept["head"]["kernel"], start["head"]["kernel"])


def test_without_weights_it_is_refused(small):
    with pytest.raises(errors.BadInput, match="config.init_from is empty.* to random"):
        build_training(small)
    small.init_head = "rest"
    with pytest.raises(errors.BadInput, match="unknown config.init_head 'rest'.*'reset'"):
        build_training(small)


def test_momentum_may_be_kept_in_half_the_bytes(small):
    small.init_from = "random"
    small.optimizer.name = "sgd(momentum=0.9, accumulator_dtype='bfloat16')"
    training = build_training(small)
    state = training.update.abstract_state()
    kinds = {x.dtype.name for x in jax.tree.leaves(state.opt_state) if x.ndim}
    assert kinds == {"bfloat16"}
    assert {x.dtype.name for x in jax.tree.leaves(state.params)} == {"float32"}


def test_the_card_has_the_preprocessing_of_the_test_evaluator():
    config = finetune.get_config("Mixer-B/16,cifar10,224")
    config.evaluators.test.transform = "resize(256)|central_crop"
    assert evaluation_transform(config) == "resize(256)|central_crop"
    config.evaluators.test.split = ""
    config.evaluators.dev.split = "train[98%:]"
    assert evaluation_transform(config) == config.evaluators.dev.transform
    config.evaluators.other = config.evaluators.dev.copy_and_resolve_references()
    config.evaluators.other.transform = "resize"
    with pytest.raises(errors.BadInput, match="name test or val the evaluator"):
        evaluation_transform(config)


def test_the_word_laptop_changes_the_optimization_only(image_folder):
    words = f"Mixer-S/32,64,folder:{image_folder}"
    plain, config = finetune.get_config(words), finetune.get_config(f"laptop,{words}")
    assert keys.as_json(finetune.get_config(f"paper,{words}")) == keys.as_json(plain)
    before, after = (keys.flat(keys.as_json(each)) for each in (plain, config))
    changed = {key for key in before if before[key] != after[key]}
    groups = ("optimizer", "schedule", "runtime", "evaluators.test.every", "evaluators.dev.every")
    sizes = {"batch_size", "evaluators.test.batch_size", "evaluators.dev.batch_size"}
    assert {key for key in changed if not key.startswith(groups)} - sizes == {
        "total",
        "label_smoothing",
        "input.transform",
    }
    config.init_from, config.model.num_blocks = "random", 2
    config.batch_size = config.evaluators.test.batch_size = 8  # one for each device
    training = build_training(config)
    assert training.total == round(20 * 35 / 8)
    assert set(training.update.multipliers) == {0.75, 0.75**2, 0.75**3}  # the head's is 1

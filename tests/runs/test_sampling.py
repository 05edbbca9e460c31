"""How often training sees an example and how much it counts, as the config asks."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from configs import folder as recipe
from mixer import errors
from mixer.runs import data, sampling
from mixer.runs.reader import print_sources
from mixer.runs.training import build_training
from mixer.training import meshes


def config_of(folder, **changes):
    config = recipe.get_config(f"folder:{folder},Mixer-S/16,16", "train")
    config.model.update(num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    config.batch_size, config.evaluators.test.batch_size = 6, 8
    with config.unlocked():
        config.update_from_flattened_dict(changes)
    return config


def test_balanced_weights_are_scikit_learns(image_folder, capsys):
    config = config_of(image_folder, class_weights="balanced")
    source, _ = data.training_source(config)
    labels = np.array([source[i]["label"] for i in range(len(source))])
    known = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    found = sampling.class_weights(config, source)
    np.testing.assert_allclose(found, known, rtol=1e-6)
    said = "class weights: cat 0.583, dog 1.17, eel 2.33; their mean over what is trained on is 1"
    assert said in capsys.readouterr().out


def test_given_weights_keep_their_ratios_and_have_mean_one(image_folder):
    config = config_of(image_folder, class_weights="1, 2,4")
    source, _ = data.training_source(config)
    found = sampling.class_weights(config, source)
    np.testing.assert_allclose(found / found[0], [1, 2, 4])
    assert found[source.every_label()].mean() == pytest.approx(1)
    assert sampling.class_weights(config_of(image_folder), source) is None


@pytest.mark.parametrize("text", ["balance", "1,2", "1,2,0", "1,2,nan", "1,2,x"])
def test_other_weights_are_refused(text, image_folder):
    config = config_of(image_folder, class_weights=text)
    with pytest.raises(errors.BadInput, match="expected balanced, or 3 numbers above 0.*cat, dog"):
        sampling.class_weights(config, data.training_source(config)[0])


def test_weights_are_for_one_label_per_image(data_dir):
    config = config_of(
        "/nowhere", class_weights="balanced", dataset="jft", **{"input.split": "full"}
    )
    with pytest.raises(errors.BadInput, match="is for one label per image, but jft has several"):
        sampling.class_weights(config, data.training_source(config)[0])


def other_folder(root):
    """Images of a class that is known and of one that is not."""
    for name, colour in (("dog", "red"), ("fox", "blue")):
        (root / "train" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (20, 20), colour).save(root / "train" / name / f"{i}.png")
    return f"folder:{root}"


def reader_of(config, devices=1):
    mesh = Mesh(np.array(jax.devices()[:devices]).reshape(devices, 1, 1), meshes.AXES)
    source, _ = data.training_source(config)
    return data.training_reader(config, source, mesh, config.batch_size)


def labels_seen(reader, start, stop):
    return [np.asarray(batch["label"]) for batch in reader.batches(start, stop)]


def test_a_mixture_is_trained_on_in_its_shares_from_any_step_on(image_folder, tmp_path, capsys):
    other = other_folder(tmp_path / "other")
    config = config_of(image_folder, **{"input.mixture": ((other, "train", 1 / 4),)})
    config.batch_size = 8
    training = build_training(config)
    assert training.card.classes == ("cat", "dog", "eel", "fox")
    (evaluation,) = training.evaluations  # on the first data set, which has no foxes
    assert evaluation.reader.source.split == "test"
    assert training.epochs == pytest.approx(training.total * 8 / 35)  # those of the first
    seen = labels_seen(reader_of(config), 0, 6)
    assert sum(np.sum(labels == 3) for labels in seen[:4]) == 4  # half of the eight of `other`
    np.testing.assert_array_equal(labels_seen(reader_of(config, 8), 3, 6), seen[3:])
    print_sources(training.readers, training.measured)
    out = capsys.readouterr().out
    assert "training: mixture: 75 % of folder:" in out and "not read: test/" not in out


def test_balanced_classes_are_seen_equally_often(image_folder, capsys):
    config = config_of(image_folder, **{"input.sampling": "classes", "input.fraction": 0.9})
    reader = reader_of(config)
    seen = labels_seen(reader, 0, 5)
    assert [np.bincount(labels).tolist() for labels in seen] == [[2, 2, 2]] * 5
    np.testing.assert_array_equal(labels_seen(reader_of(config, 2), 2, 5), seen[2:])
    print_sources({"training": [reader]})
    assert "each of 3 classes equally often: in an epoch (32 images)" in capsys.readouterr().out
    config.class_weights = "1,1,4"  # a third of each class: they are divided by two
    found = sampling.class_weights(config, reader.source)
    np.testing.assert_allclose(found, [0.5, 0.5, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input.sampling": "class"}, "sampling 'class'. Did you mean 'classes'"),
        ({"input.sampling": "classes", "input.shuffle": "blocks"}, "set config.input.shuffle=full"),
        ({"input.mixture": ("folder:b", "train", 0.3)}, "A comma is missing"),
        ({"input.mixture": (("folder:b", 0.3),)}, r"expected \(\(DATASET, SPLIT, SHARE\), ...\)"),
        ({"input.mixture": (("folder:b", "train", 3),)}, "with shares between 0 and 1"),
        ({"input.mixture": (("B", "train", 0.5), ("B", "train", 0.5))}, "leaves none for folder"),
        ({"input.mixture": (("B", "train", 0.33333),)}, "at most three decimals"),
        ({"input.mixture": (("digits", "train", 0.5),)}, "digits are numbers without names"),
        ({"input.mixture": (("cifar10", "train", 0.5),)}, "not prepared"),
    ],
)
def test_what_cannot_be_sampled_is_refused(changes, message, image_folder, data_dir):
    with pytest.raises(errors.BadInput, match=message):
        reader_of(config_of(image_folder, **changes))


def test_a_mixture_has_no_balanced_classes(image_folder):
    mixed = ((f"folder:{image_folder}", "auto", 0.5),)
    changes = {"input.mixture": mixed, "input.sampling": "classes"}
    with pytest.raises(errors.BadInput, match="do not go together: choose one"):
        reader_of(config_of(image_folder, **changes))

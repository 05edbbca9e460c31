"""How often training sees an example and how much it counts, as the config asks."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from configs import folder as recipe
from mixer import errors
from mixer.runs import data, sampling


def config_of(folder, **changes):
    config = recipe.get_config(f"folder:{folder},Mixer-S/16,16", "train")
    config.batch_size = 6
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
    said = "class weights: cat 0.583, dog 1.17, eel 2.33; their mean over the training images is 1"
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

"""`mixer.Classifier` says what `mixer.load` and `mixer.preprocess` give."""

from pathlib import Path

import jax
import numpy as np
import pytest

import mixer
from mixer import classifier

NAME = "Mixer-Ti/4:cifar10"
IMAGES = Path(__file__).parents[1] / "notebooks" / "images"


@pytest.fixture(scope="module")
def classify():
    return mixer.Classifier(NAME)


def test_names_and_probabilities_are_those_of_the_model(classify, monkeypatch):
    assert repr(classify).startswith(f"Classifier({NAME!r}): a Mixer-Ti/4 of 32 x 32 pixels, 10 cl")
    model, params, card = mixer.load(NAME)
    files = sorted(IMAGES.glob("*.png"))
    logits = jax.jit(model.apply)({"params": params}, mixer.preprocess(files, card))
    expected = np.asarray(jax.nn.softmax(logits))
    monkeypatch.setattr(classifier, "_BATCH", 4)  # several batches, the last one not full
    found = classify(f"{IMAGES}/**/*.png", top=10)
    for guesses, row in zip(found, expected, strict=True):
        assert [guess.label for guess in guesses] == list(np.argsort(-row))
        assert [guess.name for guess in guesses] == [card.names[i] for i in np.argsort(-row)]
        assert [guess.probability for guess in guesses] == pytest.approx(
            np.sort(row)[::-1], abs=1e-6
        )
    assert (
        sum(file.stem == guesses[0].name for file, guesses in zip(files, found, strict=True)) >= 6
    )
    assert [[guess.label for guess in guesses] for guesses in classify(files[:4])] == [
        list(np.argsort(-row)[:5]) for row in expected[:4]
    ]


def test_a_models_name_alone_is_its_first_published_file(capsys, monkeypatch, tmp_path):
    assert mixer.Classifier("Mixer-Ti/4").card.path == NAME
    assert f"Mixer-Ti/4: taken for {NAME}\n" in capsys.readouterr().out
    assert classifier._published("Mixer-B/16") == "Mixer-B/16:imagenet1k"
    assert "others: Mixer-B/16:imagenet21k, " in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Mixer-B" / "16").mkdir(parents=True)  # a folder of this name is meant
    assert classifier._published("Mixer-B/16") == "Mixer-B/16" and not capsys.readouterr().out


def test_what_cannot_be_used_is_refused(classify, tmp_path):
    for images, said in (
        ([], "images are empty"),
        (np.zeros((2, 3, 32, 32), np.uint8), r"images\[0\]"),
        (np.zeros((2, 32, 32, 3), np.float32), r"images\[0\].*float32"),
        (str(tmp_path / "none.jpg"), "no file"),
    ):
        with pytest.raises(mixer.BadInput, match=said):
            classify(images)
    with pytest.raises(mixer.BadInput, match="top=0: expected 1 or more"):
        classify(IMAGES, top=0)
    model, params, _ = mixer.load(NAME)
    headless = {name: value for name, value in params.items() if name != "head"}
    mixer.save_pretrained(tmp_path / "x.npz", headless, model.clone(num_classes=0))
    with pytest.raises(mixer.BadInput, match="has no head, so it knows no classes"):
        mixer.Classifier(tmp_path / "x.npz", model="Mixer-Ti/4")

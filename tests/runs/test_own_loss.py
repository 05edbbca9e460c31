"""`mixer.register_loss`: a loss of the user's own in place of ours."""

import jax
import numpy as np
import optax
import pytest

import mixer
from configs import quickstart
from mixer.runs.training import build_training
from mixer.training import losses

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture
def trained(data_dir, monkeypatch):
    """loss, other keys -> the parameters after two steps."""
    for table in ("LOSSES", "TAKES"):
        monkeypatch.setattr(losses, table, dict(getattr(losses, table)))

    def run(loss, **changes):
        config = quickstart.get_config("smoke")
        config.update_from_flattened_dict({"loss": loss, "runtime.data_dir": str(data_dir)})
        config.update_from_flattened_dict(changes)
        config.schedule.warmup = "0 steps"
        training = build_training(config)
        state, step = training.update.create_state(), training.update.ready()
        with training.reader.batches(0, 2) as batches:
            for batch in batches:
                state, _ = step(state, batch)
        return jax.device_get(state.params)

    return run


def test_it_trains_like_ours_if_it_is_the_same(trained):
    mixer.register_loss("mine", optax.softmax_cross_entropy)
    for changes in ({}, {"class_weights": "balanced", "mixup": 0.5, "label_smoothing": 0.1}):
        ours, mine = (trained(loss, **changes) for loss in ("softmax_xent", "mine"))
        jax.tree.map(np.testing.assert_array_equal, ours, mine)

    @mixer.register_loss("half", takes=("class", "distribution"))
    def half(logits, targets):
        return 0.5 * optax.softmax_cross_entropy(logits, targets)

    sgd = {"optimizer.name": "sgd(momentum=0.0)", "optimizer.weight_decay": 0.0}
    sgd |= {"optimizer.clip_norm": 0.0}
    slow = trained("half", **sgd)
    same = trained("softmax_xent", **sgd | {"schedule.base": 0.0015, "schedule.end": 0.000005})
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), slow, same)


def test_a_mean_and_other_labels_are_refused(trained):
    mixer.register_loss("mean", lambda z, t: optax.softmax_cross_entropy(z, t).mean())
    said = r"config.loss=mean: for logits \(8, 10\) it returned \(\): .* each row, \(8,\)"
    with pytest.raises(mixer.BadInput, match=said):
        trained("mean")
    mixer.register_loss("soft", optax.softmax_cross_entropy, takes=("distribution",))
    with pytest.raises(mixer.BadInput, match="config.loss=softmax_xent"):
        trained("soft")
    with pytest.raises(mixer.BadInput, match="expected some of class, classes, dist"):
        mixer.register_loss("numbers", optax.squared_error, takes=("values",))

"""The reference that our steps are timed against computes what ours compute."""

import jax
import numpy as np

import mixer
from tools import step_speed


def test_the_listing_is_our_model():
    model = mixer.create_model(
        "Mixer-S/16", num_classes=step_speed.CLASSES, num_blocks=2, hidden_dim=8, tokens_mlp_dim=6
    )
    listing = step_speed.listing_of(model)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    theirs = listing.init(jax.random.key(0), images)["params"]
    ours = {"stem": theirs["Conv_0"], "head": theirs["Dense_8"]}
    ours["pre_head_layer_norm"] = theirs["LayerNorm_4"]
    for block in range(2):
        dense = [theirs[f"Dense_{4 * block + i}"] for i in range(4)]
        ours[f"MixerBlock_{block}"] = {
            "LayerNorm_0": theirs[f"LayerNorm_{2 * block}"],
            "LayerNorm_1": theirs[f"LayerNorm_{2 * block + 1}"],
            "token_mixing": {"Dense_0": dense[0], "Dense_1": dense[1]},
            "channel_mixing": {"Dense_0": dense[2], "Dense_1": dense[3]},
        }
    np.testing.assert_allclose(
        model.apply({"params": ours}, images),
        listing.apply({"params": theirs}, images),
        rtol=1e-4,
        atol=1e-5,
    )


def test_every_contender_steps(monkeypatch):
    monkeypatch.setattr(step_speed, "SIZE", 32)
    model = mixer.create_model(
        "Mixer-S/16", num_classes=step_speed.CLASSES, num_blocks=1, hidden_dim=8, tokens_mlp_dim=6
    )
    batch = step_speed.batch_of(2)
    calls = {
        step_speed.REFERENCE: step_speed.of_listing(model, batch, training=True),
        step_speed.OURS: step_speed.of_ours(model, batch, training=True),
    }
    found = step_speed.timed(calls, 2)
    assert step_speed.ratio(found, step_speed.REFERENCE) == 1
    assert len(found[step_speed.OURS]) == 2

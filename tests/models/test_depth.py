"""The layers of each family, against timm's for its models of the same architecture.

The tables are what timm 1.0's `param_groups_layer_decay` gives: the exponent of the decay of each
part. Only ConvNeXt's last norm differs, which timm counts with the head that it is a part of.
"""

import pytest
from flax import linen as nn

import mixer
from mixer import errors
from mixer.models import depth
from mixer.runs import update

SMALL = {
    "Mixer-S/32": {"num_blocks": 3},
    "ViT-S/32": {"num_blocks": 3, "representation_size": 8},
    "ResMLP-S12": {"num_blocks": 3},
    "gMLP-Ti": {"num_blocks": 3},
    "PyramidMixer-S/32": {"num_blocks": 4, "stages": 2},
    "ConvNeXt-T": {"num_blocks": (2, 1)},
    "BiT-R50x1": {"num_blocks": (2, 1)},
    "NFNet-F0": {"num_blocks": (1, 2)},
    "HaloNet-H1": {"num_blocks": (2, 1)},
}
# The exponent of the decay; of L blocks, block i has L - i, the stem L + 1, the head 0.
_PLAIN = {"stem": 4, "Block_0": 3, "Block_1": 2, "Block_2": 1, "head": 0}


def plain(block, **others):
    return {name.replace("Block", block): value for name, value in _PLAIN.items()} | others


EXPONENTS = {
    "Mixer-S/32": plain("MixerBlock", pre_head_layer_norm=1),
    "ViT-S/32": plain("encoderblock", cls=4, pos_embedding=4, encoder_norm=1, representation=1),
    "ResMLP-S12": plain("ResMLPBlock", pre_head_affine=1),
    "gMLP-Ti": plain("GMLPBlock", pre_head_layer_norm=1),
    "PyramidMixer-S/32": {
        **{"stem": 5, "MixerBlock_0": 4, "MixerBlock_1": 3},
        **{"Stage1_MixerBlock_0": 2, "Stage1_MixerBlock_1": 1},
        **{"pre_head_layer_norm": 1, "head": 0},
    },
    "ConvNeXt-T": {
        **{"stem": 4, "stem_norm": 4, "stage_0_block_0": 3, "stage_0_block_1": 2},
        **{"downsample_norm_1": 1, "downsample_1": 1, "stage_1_block_0": 1},
        **{"pre_head_layer_norm": 1, "head": 0},
    },
    "BiT-R50x1": {
        **{"conv_root": 4, "stage_0_unit_0": 3, "stage_0_unit_1": 2, "stage_1_unit_0": 1},
        **{"norm_pre_head": 1, "head": 0},
    },
    "NFNet-F0": {
        **{"stem_0": 4, "stem_1": 4, "stem_2": 4, "stem_3": 4, "stage_0_block_0": 3},
        **{"stage_1_block_0": 2, "stage_1_block_1": 1, "final": 1, "head": 0},
    },
    "HaloNet-H1": {
        **{"stem": 4, "stem_norm": 4, "stage_0_block_0": 3, "stage_0_block_1": 2},
        **{"stage_1_block_0": 1, "head": 0},
    },
}


@pytest.mark.parametrize("name", SMALL)
def test_the_layers_are_timm_s(name):
    model = mixer.create_model(name, num_classes=3, **SMALL[name])
    layers = depth.layers(model, (64, 64))
    assert {part: max(layers.values()) - layer for part, layer in layers.items()} == EXPONENTS[name]


def test_twelve_blocks_are_counted_by_their_numbers_not_by_their_names():
    layers = depth.layers(mixer.create_model("Mixer-B/32", num_classes=3), (32, 32))
    assert [layers[f"MixerBlock_{i}"] for i in range(12)] == list(range(1, 13))
    assert (layers["stem"], layers["head"]) == (0, 13)


def test_the_key_is_checked_and_a_model_without_blocks_is_refused():
    from configs import quickstart

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, images, train=False):
            return nn.Dense(3, name="head")(images.mean((1, 2)))

    config = quickstart.get_config()
    for decay in (0, -1, 1.5):
        config.optimizer.layer_decay = float(decay)
        with pytest.raises(errors.BadInput, match="expected 0 < layer_decay <= 1"):
            update.layer_rates(config, Linear(), (8, 8))
    config.optimizer.layer_decay = 0.75
    with pytest.raises(errors.BadInput, match="Linear has no blocks.*MyBlock_0"):
        update.layer_rates(config, Linear(), (8, 8))
    config.optimizer.layer_decay = 1.0
    assert update.layer_rates(config, Linear(), (8, 8)) == {}

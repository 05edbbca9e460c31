"""Models. Each family is one file; its published sizes are registered here."""

from mixer.models.bit import BiT
from mixer.models.convnext import ConvNeXt
from mixer.models.gmlp import GMLP
from mixer.models.halonet import HaloNet
from mixer.models.mixer import Mixer
from mixer.models.mixer_ablations import AblatedMixer
from mixer.models.nfnet import NFNet
from mixer.models.registry import register_model
from mixer.models.resmlp import ResMLP
from mixer.models.vit import ViT

# Appendix A. The paper does not print G, nor the pyramid's shape.
_ABLATIONS = {
    "UntiedMixer": {"token_mixing": "untied"},
    "GroupedMixer": {"token_mixing": "grouped", "groups": 4},
    "ViewsMixer": {"token_mixing": "views", "groups": 4},
    "PyramidMixer": {"token_mixing": "pyramid", "stages": 2},
}

# Table 1: patch P, layers, hidden C, D_S, D_C.
for _name, _patch, _blocks, _hidden, _tokens, _channels in (
    ("Mixer-S/32", 32, 8, 512, 256, 2048),
    ("Mixer-S/16", 16, 8, 512, 256, 2048),
    ("Mixer-B/32", 32, 12, 768, 384, 3072),
    ("Mixer-B/16", 16, 12, 768, 384, 3072),
    ("Mixer-L/32", 32, 24, 1024, 512, 4096),
    ("Mixer-L/16", 16, 24, 1024, 512, 4096),
    ("Mixer-H/14", 14, 32, 1280, 640, 5120),
):
    _fields = {
        "patch_size": _patch,
        "num_blocks": _blocks,
        "hidden_dim": _hidden,
        "tokens_mlp_dim": _tokens,
        "channels_mlp_dim": _channels,
    }
    register_model(_name, Mixer, verified="other implementation", **_fields)
    for _kind, _other in _ABLATIONS.items():
        register_model(_name.replace("Mixer", _kind), AblatedMixer, **_fields, **_other)

# Not the paper's: for images of 32 x 32 pixels, small enough to be trained on a CPU.
register_model(
    "Mixer-Ti/4",
    Mixer,
    patch_size=4,
    num_blocks=8,
    hidden_dim=64,
    tokens_mlp_dim=64,
    channels_mlp_dim=256,
)

# Patch P, layers, hidden D, MLP, heads; Ti and S are later than the paper (its table 1: B, L, H).
for _name, _patch, _blocks, _hidden, _mlp, _heads in (
    ("ViT-Ti/16", 16, 12, 192, 768, 3),
    ("ViT-S/32", 32, 12, 384, 1536, 6),
    ("ViT-S/16", 16, 12, 384, 1536, 6),
    ("ViT-B/32", 32, 12, 768, 3072, 12),
    ("ViT-B/16", 16, 12, 768, 3072, 12),
    ("ViT-L/32", 32, 24, 1024, 4096, 16),
    ("ViT-L/16", 16, 24, 1024, 4096, 16),
    ("ViT-H/14", 14, 32, 1280, 5120, 16),
):
    register_model(
        _name,
        ViT,
        verified="other implementation",
        patch_size=_patch,
        num_blocks=_blocks,
        hidden_dim=_hidden,
        mlp_dim=_mlp,
        num_heads=_heads,
    )

# Layers, their units by stage, width factors. R200x3 is ViT's and Mixer's, not BiT's own.
for _layers, _units, _factors in (
    (50, (3, 4, 6, 3), (1, 2, 3)),
    (101, (3, 4, 23, 3), (1, 3)),
    (152, (3, 8, 36, 3), (1, 2, 4)),
    (200, (3, 24, 36, 3), (3,)),
):
    for _factor in _factors:
        register_model(
            f"BiT-R{_layers}x{_factor}",
            BiT,
            verified="other implementation",
            num_blocks=_units,
            width=64 * _factor,
        )

# Patch P, layers, hidden C, initial scale of the branches.
for _name, _patch, _blocks, _hidden, _scale in (
    ("ResMLP-S12", 16, 12, 384, 0.1),
    ("ResMLP-S24", 16, 24, 384, 1e-5),
    ("ResMLP-S36", 16, 36, 384, 1e-6),
    ("ResMLP-B24/16", 16, 24, 768, 1e-6),
    ("ResMLP-B24/8", 8, 24, 768, 1e-6),
):
    register_model(
        _name,
        ResMLP,
        verified="other implementation",
        patch_size=_patch,
        num_blocks=_blocks,
        hidden_dim=_hidden,
        channels_mlp_dim=4 * _hidden,
        layer_scale_init=_scale,
    )

# Hidden C, 1 - survival probability.
for _name, _hidden, _drop in (
    ("gMLP-Ti", 128, 0.0),
    ("gMLP-S", 256, 0.05),
    ("gMLP-B", 512, 0.2),
):
    register_model(
        _name,
        GMLP,
        verified="other implementation",
        patch_size=16,
        num_blocks=30,
        hidden_dim=_hidden,
        ffn_dim=6 * _hidden,
        stochastic_depth=_drop,
    )

# Blocks of the stages, width of the first, stochastic depth from scratch on ImageNet-1k (of XL, on
# ImageNet-21k).
for _name, _blocks, _width, _drop in (
    ("ConvNeXt-T", (3, 3, 9, 3), 96, 0.1),
    ("ConvNeXt-S", (3, 3, 27, 3), 96, 0.4),
    ("ConvNeXt-B", (3, 3, 27, 3), 128, 0.5),
    ("ConvNeXt-L", (3, 3, 27, 3), 192, 0.5),
    ("ConvNeXt-XL", (3, 3, 27, 3), 256, 0.2),
):
    register_model(
        _name,
        ConvNeXt,
        verified="other implementation",
        num_blocks=_blocks,
        widths=tuple(_width * 2**stage for stage in range(4)),
        stochastic_depth=_drop,
    )

# Size factor of the depth, dropout.
for _name, _factor, _drop in (
    ("NFNet-F0", 1, 0.2),
    ("NFNet-F1", 2, 0.3),
    ("NFNet-F2", 3, 0.4),
    ("NFNet-F3", 4, 0.4),
    ("NFNet-F4", 5, 0.5),
    ("NFNet-F5", 6, 0.5),
    ("NFNet-F6", 7, 0.5),
    ("NFNet-F7", 8, 0.5),
    ("NFNet-F4+", 5, 0.5),
):
    register_model(
        _name,
        NFNet,
        verified="counts" if _name.endswith("+") else "other implementation",
        num_blocks=tuple(_factor * blocks for blocks in (1, 2, 6, 3)),
        widths=(384, 768, 2048, 2048) if _name.endswith("+") else (256, 512, 1536, 1536),
        dropout=_drop,
        stochastic_depth=0.25,
    )

# Block b, halo h, r_v, r_b, blocks of the third stage, d_f.
for _name, _block, _halo, _value, _out, _third, _final in (
    ("HaloNet-H0", 8, 3, 1.0, 0.5, 7, 0),
    ("HaloNet-H1", 8, 3, 1.0, 1.0, 10, 0),
    ("HaloNet-H2", 8, 3, 1.0, 1.25, 11, 0),
    ("HaloNet-H3", 10, 3, 1.0, 1.5, 12, 1024),
    ("HaloNet-H4", 12, 2, 1.0, 3.0, 12, 1280),
    ("HaloNet-H5", 14, 2, 2.5, 2.0, 23, 1536),
    ("HaloNet-H6", 8, 4, 3.0, 2.75, 24, 1536),
    ("HaloNet-H7", 10, 3, 4.0, 3.5, 26, 2048),
):
    register_model(
        _name,
        HaloNet,
        verified="counts",
        num_blocks=(3, 3, _third, 3),
        widths=(64, 128, 256, 512),
        num_heads=(4, 8, 8, 8),
        block_size=_block,
        halo_size=_halo,
        value_ratio=_value,
        out_ratio=_out,
        final_dim=_final,
    )

"""The published sizes of each family, registered under their names."""

from flax import linen as nn

from mixer.models.bit import BiT
from mixer.models.convnext import ConvNeXt
from mixer.models.gmlp import GMLP
from mixer.models.halonet import HaloNet
from mixer.models.mixer import Mixer
from mixer.models.mixer_ablations import AblatedMixer
from mixer.models.nfnet import NFNet
from mixer.models.registry import Traits, register_model
from mixer.models.resmlp import ResMLP
from mixer.models.vit import ViT

_COMPARED = "other implementation"


def _register(
    module: type[nn.Module],
    fields: str,
    sizes: dict[str, tuple],
    verified: str = _COMPARED,
    **same,
) -> None:
    """Registers each name in `sizes`, which has values for `fields`; `same` are the common ones."""
    for name, values in sizes.items():
        own = dict(zip(fields.split(), values, strict=True))
        register_model(name, module, verified=verified, **own, **same)


_MIXER_FIELDS = "patch_size num_blocks hidden_dim tokens_mlp_dim channels_mlp_dim"
# P, layers, C, D_S, D_C.
TABLE_1 = {
    "Mixer-S/32": (32, 8, 512, 256, 2048),
    "Mixer-S/16": (16, 8, 512, 256, 2048),
    "Mixer-B/32": (32, 12, 768, 384, 3072),
    "Mixer-B/16": (16, 12, 768, 384, 3072),
    "Mixer-L/32": (32, 24, 1024, 512, 4096),
    "Mixer-L/16": (16, 24, 1024, 512, 4096),
    "Mixer-H/14": (14, 32, 1280, 640, 5120),
}
_register(Mixer, _MIXER_FIELDS, TABLE_1, traits=Traits(family="Mixer"))
# Not the paper's: for images of 32 x 32 pixels, and small enough to train on a CPU.
_register(Mixer, _MIXER_FIELDS, {"Mixer-Ti/4": (4, 8, 64, 64, 256)}, "nothing")

# Appendix A. The paper prints neither G nor the shape of the pyramid.
for _kind, _changes in {
    "UntiedMixer": {"token_mixing": "untied"},
    "GroupedMixer": {"token_mixing": "grouped", "groups": 4},
    "ViewsMixer": {"token_mixing": "views", "groups": 4},
    "PyramidMixer": {"token_mixing": "pyramid", "stages": 2},
}.items():
    _sizes = {name.replace("Mixer", _kind): size for name, size in TABLE_1.items()}
    _register(AblatedMixer, _MIXER_FIELDS, _sizes, "nothing", **_changes)

# B, L and H are from table 1 of the ViT paper; Ti and S were added later.
_register(
    ViT,
    "patch_size num_blocks hidden_dim mlp_dim num_heads",
    {
        "ViT-Ti/16": (16, 12, 192, 768, 3),
        "ViT-S/32": (32, 12, 384, 1536, 6),
        "ViT-S/16": (16, 12, 384, 1536, 6),
        "ViT-B/32": (32, 12, 768, 3072, 12),
        "ViT-B/16": (16, 12, 768, 3072, 12),
        "ViT-L/32": (32, 24, 1024, 4096, 16),
        "ViT-L/16": (16, 24, 1024, 4096, 16),
        "ViT-H/14": (14, 32, 1280, 5120, 16),
    },
    traits=Traits(family="ViT"),
)

# Layers, units per stage, width factors. R200x3 is from the ViT and Mixer papers, not BiT's.
for _layers, _units, _factors in (
    (50, (3, 4, 6, 3), (1, 2, 3)),
    (101, (3, 4, 23, 3), (1, 3)),
    (152, (3, 8, 36, 3), (1, 2, 4)),
    (200, (3, 24, 36, 3), (3,)),
):
    _sizes = {f"BiT-R{_layers}x{factor}": (_units, 64 * factor) for factor in _factors}
    _traits = Traits(family="BiT", square_on_imagenet=True)
    _register(BiT, "num_blocks width", _sizes, traits=_traits)

_register(
    ResMLP,
    "patch_size num_blocks hidden_dim channels_mlp_dim layer_scale_init",
    {
        "ResMLP-S12": (16, 12, 384, 1536, 0.1),
        "ResMLP-S24": (16, 24, 384, 1536, 1e-5),
        "ResMLP-S36": (16, 36, 384, 1536, 1e-6),
        "ResMLP-B24/16": (16, 24, 768, 3072, 1e-6),
        "ResMLP-B24/8": (8, 24, 768, 3072, 1e-6),
    },
    traits=Traits(family="ResMLP", uniform_depth=True),
)

# The last number is 1 - the survival probability.
_register(
    GMLP,
    "hidden_dim ffn_dim stochastic_depth",
    {
        "gMLP-Ti": (128, 768, 0.0),
        "gMLP-S": (256, 1536, 0.05),
        "gMLP-B": (512, 3072, 0.2),
    },
    patch_size=16,
    num_blocks=30,
    traits=Traits(family="GMLP", uniform_depth=True, zero_depth_is_meant=True),
)

# Stochastic depth is that of training on ImageNet-1k only; XL's is for ImageNet-21k.
_register(
    ConvNeXt,
    "num_blocks widths stochastic_depth",
    {
        "ConvNeXt-T": ((3, 3, 9, 3), (96, 192, 384, 768), 0.1),
        "ConvNeXt-S": ((3, 3, 27, 3), (96, 192, 384, 768), 0.4),
        "ConvNeXt-B": ((3, 3, 27, 3), (128, 256, 512, 1024), 0.5),
        "ConvNeXt-L": ((3, 3, 27, 3), (192, 384, 768, 1536), 0.5),
        "ConvNeXt-XL": ((3, 3, 27, 3), (256, 512, 1024, 2048), 0.2),
    },
    traits=Traits(family="ConvNeXt"),
)

_NFNET = Traits(family="NFNet", agc=0.01)
# How many times deeper than F0 each one is.
for _deeper, _dropout in enumerate((0.2, 0.3, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5), 1):
    _blocks = tuple(_deeper * blocks for blocks in (1, 2, 6, 3))
    _sizes = {f"NFNet-F{_deeper - 1}": (_blocks, _dropout)}
    _widths = (256, 512, 1536, 1536)
    _register(
        NFNet, "num_blocks dropout", _sizes, widths=_widths, stochastic_depth=0.25, traits=_NFNET
    )
register_model(
    "NFNet-F4+",
    NFNet,
    verified="counts",
    num_blocks=(5, 10, 30, 15),
    widths=(384, 768, 2048, 2048),
    dropout=0.5,
    stochastic_depth=0.25,
    traits=_NFNET,
)

# Block b, halo h, r_v, r_b, d_f, blocks per stage, of which the third varies.
_register(
    HaloNet,
    "block_size halo_size value_ratio out_ratio final_dim num_blocks",
    {
        "HaloNet-H0": (8, 3, 1.0, 0.5, 0, (3, 3, 7, 3)),
        "HaloNet-H1": (8, 3, 1.0, 1.0, 0, (3, 3, 10, 3)),
        "HaloNet-H2": (8, 3, 1.0, 1.25, 0, (3, 3, 11, 3)),
        "HaloNet-H3": (10, 3, 1.0, 1.5, 1024, (3, 3, 12, 3)),
        "HaloNet-H4": (12, 2, 1.0, 3.0, 1280, (3, 3, 12, 3)),
        "HaloNet-H5": (14, 2, 2.5, 2.0, 1536, (3, 3, 23, 3)),
        "HaloNet-H6": (8, 4, 3.0, 2.75, 1536, (3, 3, 24, 3)),
        "HaloNet-H7": (10, 3, 4.0, 3.5, 2048, (3, 3, 26, 3)),
    },
    verified="counts",
    widths=(64, 128, 256, 512),
    num_heads=(4, 8, 8, 8),
)

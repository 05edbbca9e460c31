"""A small HaloNet in timm and the layout of our arrays in it, for tools/timm_parity.py.

It is not used for files: timm scales relative positions in another way, and numbers those of
strided queries as if they were not strided.
"""

import functools

import numpy as np

from mixer.weights.formats.names.table import TORCH_1X1, Layout, NameTable, torch_rows


def network():
    """Two stages of timm's blocks, with our norms, as a torch module."""
    from timm.layers import GroupNormAct
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    config = ByoModelCfg(
        blocks=(
            ByoBlockCfg(type="self_attn", d=1, c=128, s=1, gs=0, br=0.5),
            ByoBlockCfg(type="self_attn", d=2, c=256, s=2, gs=0, br=0.5),
        ),
        stem_chs=64,
        stem_type="7x7",
        norm_layer=functools.partial(GroupNormAct, group_size=16, eps=1e-6),
        self_attn_layer="halo",
        self_attn_kwargs={"block_size": 4, "halo_size": 1, "scale_pos_embed": True},
    )
    return ByobNet(config, num_classes=5)


def _by_heads(array, model):
    """[C, keys and values] of all heads -> a convolution kernel with both of each head in turn."""
    both = (part.reshape(len(part), model.num_heads[0], -1) for part in np.split(array, 2, axis=1))
    return np.concatenate([*both], axis=2).reshape(len(array), -1).T[:, :, None, None]


# A row of timm's table is an offset from the window, a row of ours an offset from the block in it.
_FROM_WINDOW = Layout(theirs=lambda table, model: np.roll(table, model.halo_size, axis=0))
_OURS, _TIMM = "stage_{0}_block_{1}/", "stages.{0}.{1}."


def _normed(ours: str, theirs: str, norm: str, their_norm: str) -> tuple[tuple, ...]:
    """Rows of a 1 x 1 convolution and its norm."""
    return (
        (f"{ours}/kernel", f"{theirs}.weight", TORCH_1X1),
        (f"{norm}/scale", f"{their_norm}.weight"),
        (f"{norm}/bias", f"{their_norm}.bias"),
    )


NAMES = NameTable(
    "timm's names",
    "stem.conv1.bn.weight",
    torch_rows(
        ("stem/kernel", "stem.conv1.conv.weight"),
        ("stem_norm/scale", "stem.conv1.bn.weight"),
        ("stem_norm/bias", "stem.conv1.bn.bias"),
        *(
            row
            for ours, theirs, norm, their_norm in (
                ("Dense_0", "conv1_1x1.conv", "GroupNorm_0", "conv1_1x1.bn"),
                ("attention/query", "self_attn.q", "GroupNorm_1", "post_attn"),
                ("Dense_1", "conv3_1x1.conv", "GroupNorm_2", "conv3_1x1.bn"),
                ("shortcut", "shortcut.conv", "shortcut_norm", "shortcut.bn"),
            )
            for row in _normed(_OURS + ours, _TIMM + theirs, _OURS + norm, _TIMM + their_norm)
        ),
        (
            _OURS + "attention/key_value/kernel",
            _TIMM + "self_attn.kv.weight",
            Layout(theirs=_by_heads),
        ),
        (_OURS + "attention/relative_rows", _TIMM + "self_attn.pos_embed.height_rel", _FROM_WINDOW),
        (
            _OURS + "attention/relative_columns",
            _TIMM + "self_attn.pos_embed.width_rel",
            _FROM_WINDOW,
        ),
        ("head/kernel", "head.fc.weight"),
        ("head/bias", "head.fc.bias"),
    ),
)

"""How three kinds of files name a Mixer's arrays: one table.

"published" is the paper's release (`.npz`), whose names are those of our tree. "older" is the
internal format that preceded it; it numbers a block's submodules together, so the second LayerNorm
has any number but 0, and its token-mixing arrays may hold singleton axes. "timm" is PyTorch's: a
Dense kernel is [out, in], a convolution's [out, in, height, width].
"""

import re
from collections.abc import Iterable

import numpy as np

from mixer import errors

PUBLISHED, OLDER, TIMM = range(3)
_TITLES = ("the published names", "the older internal names", "timm's names")
_TABLE = (
    ("stem/kernel", "embedding/kernel", "stem.proj.weight"),
    ("stem/bias", "embedding/bias", "stem.proj.bias"),
    ("pre_head_layer_norm/scale", "Mixer/encoder_norm/scale", "norm.weight"),
    ("pre_head_layer_norm/bias", "Mixer/encoder_norm/bias", "norm.bias"),
    ("head/kernel", "head/kernel", "head.weight"),
    ("head/bias", "head/bias", "head.bias"),
)
_BLOCKS = ("MixerBlock_{}/", "Mixer/encoderblock_{}/", "blocks.{}.")
_BLOCK_TABLE = (
    ("LayerNorm_0/scale", "LayerNorm_0/scale", "norm1.weight"),
    ("LayerNorm_0/bias", "LayerNorm_0/bias", "norm1.bias"),
    ("token_mixing/Dense_0/kernel", "token_mixing_phase_0/kernel1", "mlp_tokens.fc1.weight"),
    ("token_mixing/Dense_0/bias", "token_mixing_phase_0/bias1", "mlp_tokens.fc1.bias"),
    ("token_mixing/Dense_1/kernel", "token_mixing_phase_0/kernel2", "mlp_tokens.fc2.weight"),
    ("token_mixing/Dense_1/bias", "token_mixing_phase_0/bias2", "mlp_tokens.fc2.bias"),
    ("LayerNorm_1/scale", "LayerNorm_1/scale", "norm2.weight"),
    ("LayerNorm_1/bias", "LayerNorm_1/bias", "norm2.bias"),
    ("channel_mixing/Dense_0/kernel", "channel_mixing_phase_0/kernel1", "mlp_channels.fc1.weight"),
    ("channel_mixing/Dense_0/bias", "channel_mixing_phase_0/bias1", "mlp_channels.fc1.bias"),
    ("channel_mixing/Dense_1/kernel", "channel_mixing_phase_0/kernel2", "mlp_channels.fc2.weight"),
    ("channel_mixing/Dense_1/bias", "channel_mixing_phase_0/bias2", "mlp_channels.fc2.bias"),
)
_NUMBER = "(0|[1-9][0-9]*)"
# No other family has these: a ViT's file holds "head/kernel" and "norm.weight" too.
_MARKS = tuple(
    re.compile(re.escape(block).replace(r"\{\}", _NUMBER) + re.escape(row))
    for block, row in zip(_BLOCKS, _BLOCK_TABLE[2], strict=True)
)


def to_ours(flat: dict[str, np.ndarray], source: str) -> tuple[dict[str, np.ndarray], str]:
    """Arrays under any of the three namings -> the same under ours, and what the names were.

    A name that the table does not hold stays as it is, for `adapt.fit` to refuse.

    Args:
      source: where they come from, for the messages.

    Raises:
      BadInput: no Mixer's arrays, or two for one place.
    """
    kind = next((k for k, mark in enumerate(_MARKS) if any(map(mark.fullmatch, flat))), None)
    if kind is None:
        some = ", ".join(sorted(flat)[:5]) or "nothing"
        raise errors.BadInput(
            f"{source} holds no Mixer's parameters: expected names such as "
            f"MixerBlock_0/token_mixing/Dense_0/kernel or blocks.0.mlp_tokens.fc1.weight, found "
            f"{some}"
        )
    found = {}
    for theirs, array in flat.items():
        name = _rename(theirs, kind, PUBLISHED)
        if name in found:
            raise errors.BadInput(f"{source} holds two arrays for {name}, one of them as {theirs}")
        if kind == OLDER and name.startswith("MixerBlock"):
            array = array.squeeze()
        if kind == TIMM and name.endswith("kernel"):
            array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        found[name] = array
    return found, _TITLES[kind]


def to_timm(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays under our names -> the same under timm's, in its axis order."""
    found = {}
    for name, array in flat.items():
        if name.endswith("kernel"):
            array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        found[_rename(name, PUBLISHED, TIMM)] = array
    return found


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted with numbers by their value: block 10 after block 9."""
    parts = {name: re.split(r"([0-9]+)", name) for name in names}
    return sorted(parts, key=lambda name: [int(p) if p.isdecimal() else p for p in parts[name]])


def _rename(name: str, source: int, target: int) -> str:
    """The name's column `target`, by the row whose column `source` it is; else the name itself."""
    block = re.match(re.escape(_BLOCKS[source]).replace(r"\{\}", _NUMBER), name)
    rest = name[block.end() :] if block else name
    if source == OLDER and block:
        rest = re.sub(r"^LayerNorm_[1-9][0-9]*/", "LayerNorm_1/", rest)
    for row in _BLOCK_TABLE if block else _TABLE:
        if row[source] == rest:
            return (_BLOCKS[target].format(block[1]) if block else "") + row[target]
    return name

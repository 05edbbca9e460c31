"""Array names in Mixer files.

"published" is the paper's release, which has the names of our tree. "older" is the internal format
before it: it numbers all submodules of a block together, so the second LayerNorm may have any
number but 0, and its token-mixing arrays may have singleton axes.
"""

from mixer.weights.formats.names.table import (
    SQUEEZED,
    Family,
    NameTable,
    Row,
    size_of,
    torch_rows,
)

_OURS = "MixerBlock_{0}/"
_OLDER = "Mixer/encoderblock_{0}/"
_TIMM = "blocks.{0}."

# Our name, the older format's, timm's.
_TABLE = (
    ("stem/kernel", "embedding/kernel", "stem.proj.weight"),
    ("stem/bias", "embedding/bias", "stem.proj.bias"),
    ("pre_head_layer_norm/scale", "Mixer/encoder_norm/scale", "norm.weight"),
    ("pre_head_layer_norm/bias", "Mixer/encoder_norm/bias", "norm.bias"),
    ("head/kernel", "head/kernel", "head.weight"),
    ("head/bias", "head/bias", "head.bias"),
)
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
_ALL = _TABLE + tuple((_OURS + a, _OLDER + b, _TIMM + c) for a, b, c in _BLOCK_TABLE)
# The array and the axis that show each size of the model.
_SIZES = {
    "patch_size": ("stem/kernel", 0),
    "hidden_dim": ("stem/kernel", 3),
    "tokens_mlp_dim": ("MixerBlock_0/token_mixing/Dense_0/kernel", 1),
    "channels_mlp_dim": ("MixerBlock_0/channel_mixing/Dense_0/kernel", 1),
}


def _sizes(arrays):
    blocks = {name.partition("/")[0] for name in arrays if name.startswith("MixerBlock_")}
    seen = {
        field: arrays[name].shape[axis]
        for field, (name, axis) in _SIZES.items()
        if name in arrays and arrays[name].ndim > axis
    }
    return {"num_blocks": len(blocks)} | seen


MIXER = Family(
    "Mixer",
    (
        NameTable(
            "the published names",
            _OURS + "token_mixing/Dense_0/kernel",
            [Row(ours, ours) for ours, _, _ in _ALL],
        ),
        NameTable(
            "the older internal names",
            _OLDER + "token_mixing_phase_0/kernel1",
            [
                Row(*row[:2], SQUEEZED) if row[0].startswith(_OURS) else Row(*row[:2])
                for row in _ALL
            ],
            aliases=((r"(encoderblock_\d+)/LayerNorm_[1-9]\d*/", r"\1/LayerNorm_1/"),),
        ),
        NameTable(
            "timm's names",
            _TIMM + "mlp_tokens.fc1.weight",
            torch_rows(*((ours, timm) for ours, _, timm in _ALL)),
        ),
    ),
    size_of("/token_mixing/Dense_1/bias"),
    mixes_tokens=True,
    sizes=_sizes,
)

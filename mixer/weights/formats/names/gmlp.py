"""Array names in gMLP files."""

from mixer.weights.formats.names.table import from_timm, torch_rows

_OURS, _TIMM = "GMLPBlock_{0}/", "blocks.{0}."

GMLP = from_timm(
    "GMLP",
    _OURS + "token_mixing/kernel",
    torch_rows(
        ("stem/kernel", "stem.proj.weight"),
        ("stem/bias", "stem.proj.bias"),
        (_OURS + "LayerNorm_0/scale", _TIMM + "norm.weight"),
        (_OURS + "LayerNorm_0/bias", _TIMM + "norm.bias"),
        (_OURS + "Dense_0/kernel", _TIMM + "mlp_channels.fc1.weight"),
        (_OURS + "Dense_0/bias", _TIMM + "mlp_channels.fc1.bias"),
        (_OURS + "LayerNorm_1/scale", _TIMM + "mlp_channels.gate.norm.weight"),
        (_OURS + "LayerNorm_1/bias", _TIMM + "mlp_channels.gate.norm.bias"),
        (_OURS + "token_mixing/kernel", _TIMM + "mlp_channels.gate.proj.weight"),
        (_OURS + "token_mixing/bias", _TIMM + "mlp_channels.gate.proj.bias"),
        (_OURS + "Dense_1/kernel", _TIMM + "mlp_channels.fc2.weight"),
        (_OURS + "Dense_1/bias", _TIMM + "mlp_channels.fc2.bias"),
        ("pre_head_layer_norm/scale", "norm.weight"),
        ("pre_head_layer_norm/bias", "norm.bias"),
        ("head/kernel", "head.weight"),
        ("head/bias", "head.bias"),
    ),
    mixing="/token_mixing/bias",
)

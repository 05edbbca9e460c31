"""Array names in ResMLP files."""

from mixer.weights.formats.names.table import Layout, from_timm, torch_rows

_AFFINE = Layout(lambda a, m: a.ravel(), lambda a, m: a[None, None])  # [1, 1, C] in timm
_OURS, _TIMM = "ResMLPBlock_{0}/", "blocks.{0}."

RESMLP = from_timm(
    "ResMLP",
    _OURS + "token_mixing/kernel",
    torch_rows(
        ("stem/kernel", "stem.proj.weight"),
        ("stem/bias", "stem.proj.bias"),
        (_OURS + "Affine_0/alpha", _TIMM + "norm1.alpha", _AFFINE),
        (_OURS + "Affine_0/beta", _TIMM + "norm1.beta", _AFFINE),
        (_OURS + "token_mixing/kernel", _TIMM + "linear_tokens.weight"),
        (_OURS + "token_mixing/bias", _TIMM + "linear_tokens.bias"),
        (_OURS + "LayerScale_0/gamma", _TIMM + "ls1"),
        (_OURS + "Affine_1/alpha", _TIMM + "norm2.alpha", _AFFINE),
        (_OURS + "Affine_1/beta", _TIMM + "norm2.beta", _AFFINE),
        (_OURS + "channel_mixing/Dense_0/kernel", _TIMM + "mlp_channels.fc1.weight"),
        (_OURS + "channel_mixing/Dense_0/bias", _TIMM + "mlp_channels.fc1.bias"),
        (_OURS + "channel_mixing/Dense_1/kernel", _TIMM + "mlp_channels.fc2.weight"),
        (_OURS + "channel_mixing/Dense_1/bias", _TIMM + "mlp_channels.fc2.bias"),
        (_OURS + "LayerScale_1/gamma", _TIMM + "ls2"),
        ("pre_head_affine/alpha", "norm.alpha", _AFFINE),
        ("pre_head_affine/beta", "norm.beta", _AFFINE),
        ("head/kernel", "head.weight"),
        ("head/bias", "head.bias"),
    ),
    mixing="/token_mixing/bias",
)

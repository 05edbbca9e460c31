"""Array names in ConvNeXt files."""

from mixer.weights.formats.names.table import from_timm, torch_rows

_OURS, _TIMM = "stage_{0}_block_{1}/", "stages.{0}.blocks.{1}."

CONVNEXT = from_timm(
    "ConvNeXt",
    _OURS + "depthwise/kernel",
    torch_rows(
        ("stem/kernel", "stem.0.weight"),
        ("stem/bias", "stem.0.bias"),
        ("stem_norm/scale", "stem.1.weight"),
        ("stem_norm/bias", "stem.1.bias"),
        ("downsample_norm_{0}/scale", "stages.{0}.downsample.0.weight"),
        ("downsample_norm_{0}/bias", "stages.{0}.downsample.0.bias"),
        ("downsample_{0}/kernel", "stages.{0}.downsample.1.weight"),
        ("downsample_{0}/bias", "stages.{0}.downsample.1.bias"),
        (_OURS + "depthwise/kernel", _TIMM + "conv_dw.weight"),
        (_OURS + "depthwise/bias", _TIMM + "conv_dw.bias"),
        (_OURS + "LayerNorm_0/scale", _TIMM + "norm.weight"),
        (_OURS + "LayerNorm_0/bias", _TIMM + "norm.bias"),
        (_OURS + "channel_mixing/Dense_0/kernel", _TIMM + "mlp.fc1.weight"),
        (_OURS + "channel_mixing/Dense_0/bias", _TIMM + "mlp.fc1.bias"),
        (_OURS + "channel_mixing/Dense_1/kernel", _TIMM + "mlp.fc2.weight"),
        (_OURS + "channel_mixing/Dense_1/bias", _TIMM + "mlp.fc2.bias"),
        (_OURS + "LayerScale_0/gamma", _TIMM + "gamma"),
        ("pre_head_layer_norm/scale", "head.norm.weight"),
        ("pre_head_layer_norm/bias", "head.norm.bias"),
        ("head/kernel", "head.fc.weight"),
        ("head/bias", "head.fc.bias"),
    ),
)

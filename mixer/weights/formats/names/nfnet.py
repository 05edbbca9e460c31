"""Array names in NFNet files, timm's `dm_nfnet_...`. (Its `nfnet_...` lack `skip_gain`.)"""

from mixer.weights.formats.names.table import TORCH_1X1, Layout, from_timm, torch_rows

_GAIN = Layout(lambda a, m: a.ravel(), lambda a, m: a[:, None, None, None])
_OURS, _TIMM = "stage_{0}_block_{1}/", "stages.{0}.{1}."
_CONVOLUTIONS = (
    *((f"stem_{number}", f"stem.conv{number + 1}") for number in range(4)),
    (_OURS + "shortcut", _TIMM + "downsample.conv"),
    (_OURS + "conv_0", _TIMM + "conv1"),
    (_OURS + "conv_1", _TIMM + "conv2"),
    (_OURS + "conv_2", _TIMM + "conv2b"),
    (_OURS + "conv_3", _TIMM + "conv3"),
    ("final", "final_conv"),
)

NFNET = from_timm(
    "NFNet",
    _OURS + "skip_gain",
    torch_rows(
        *(
            (f"{ours}/{leaf}", f"{timm}.{called}", *layout)
            for ours, timm in _CONVOLUTIONS
            for leaf, called, *layout in (
                ("kernel", "weight"),
                ("gain", "gain", _GAIN),
                ("bias", "bias"),
            )
        ),
        (_OURS + "squeeze/kernel", _TIMM + "attn_last.fc1.weight", TORCH_1X1),
        (_OURS + "squeeze/bias", _TIMM + "attn_last.fc1.bias"),
        (_OURS + "excite/kernel", _TIMM + "attn_last.fc2.weight", TORCH_1X1),
        (_OURS + "excite/bias", _TIMM + "attn_last.fc2.bias"),
        (_OURS + "skip_gain", _TIMM + "skipinit_gain"),
        ("head/kernel", "head.fc.weight"),
        ("head/bias", "head.fc.bias"),
    ),
)

"""Array names in BiT files.

"published" are BiT's own files. In big_vision's, also the distilled R50x1, the vectors of group
norm are [1, 1, 1, C].
"""

from mixer.weights.formats.names.table import (
    AS_IS,
    TORCH_1X1,
    Family,
    Layout,
    NameTable,
    Row,
    torch_rows,
)

_OURS = "stage_{0}_unit_{1}/"
_HEAD_NPZ = Layout(lambda a, m: a[0, 0], lambda a, m: a[None, None])
_VECTOR = Layout(ours=lambda a, m: a.ravel())

# Ours; published; big_vision's; timm's.
_TABLE = (
    (
        "conv_root/kernel",
        "root_block/standardized_conv2d/kernel",
        "root_block/conv_root/kernel",
        "stem.conv.weight",
    ),
    ("norm_pre_head/scale", "group_norm/gamma", "norm-pre-head/scale", "norm.weight"),
    ("norm_pre_head/bias", "group_norm/beta", "norm-pre-head/bias", "norm.bias"),
    ("head/bias", "head/conv2d/bias", "head/bias", "head.fc.bias"),
    (
        _OURS + "conv_proj/kernel",
        "block{0}/unit{1:02}/a/proj/standardized_conv2d/kernel",
        "block{0}/unit{1:02}/conv_proj/kernel",
        "stages.{0}.blocks.{1}.downsample.conv.weight",
    ),
)
_UNIT_TABLE = (
    ("conv{}/kernel", "{}/standardized_conv2d/kernel", "conv{}/kernel", "conv{}.weight"),
    ("gn{}/scale", "{}/group_norm/gamma", "gn{}/scale", "norm{}.weight"),
    ("gn{}/bias", "{}/group_norm/beta", "gn{}/bias", "norm{}.bias"),
)
_ALL = _TABLE + tuple(
    (
        _OURS + ours.format(number),
        "block{0}/unit{1:02}/" + published.format(letter),
        "block{0}/unit{1:02}/" + big_vision.format(number),
        "stages.{0}.blocks.{1}." + timm.format(number),
    )
    for number, letter in enumerate("abc", 1)
    for ours, published, big_vision, timm in _UNIT_TABLE
)


BIT = Family(
    "BiT",
    (
        NameTable(
            "the published names",
            "resnet/root_block/standardized_conv2d/kernel",
            [
                *(Row(ours, "resnet/" + published) for ours, published, _, _ in _ALL),
                Row("head/kernel", "resnet/head/conv2d/kernel", _HEAD_NPZ),
            ],
            first=1,
            aliases=((r"/standardized_conv2d_\d+/", "/standardized_conv2d/"),),
        ),
        NameTable(
            "big_vision's names",
            "root_block/conv_root/kernel",
            [
                *(
                    Row(ours, theirs, AS_IS if ours.endswith("kernel") else _VECTOR)
                    for ours, _, theirs, _ in _ALL
                ),
                Row("head/kernel", "head/kernel"),
            ],
            first=1,
        ),
        NameTable(
            "timm's names",
            "stages.{0}.blocks.{1}.conv3.weight",
            torch_rows(
                *((ours, timm) for ours, _, _, timm in _ALL),
                ("head/kernel", "head.fc.weight", TORCH_1X1),
            ),
        ),
    ),
)

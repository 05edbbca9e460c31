"""Array names in ViT files.

"published" are vision_transformer's files, AugReg's included. They number all submodules of a block
together, but with later releases of Flax each kind separately. big_vision adds position embeddings
before the class token, so its table has no row for the token; it may stack all blocks in one array.
"""

import numpy as np

from mixer.weights.formats.names.table import Family, Layout, NameTable, Row, torch_rows

_OURS = "encoderblock_{0}/"
_PARTS = ("query", "key", "value")
_ATTENTION = "MultiHeadDotProductAttention_0/"

# Our name, the published name.
_TABLE = (
    ("stem/kernel", "embedding/kernel"),
    ("stem/bias", "embedding/bias"),
    ("cls", "cls"),
    ("encoder_norm/scale", "Transformer/encoder_norm/scale"),
    ("encoder_norm/bias", "Transformer/encoder_norm/bias"),
    ("representation/kernel", "pre_logits/kernel"),
    ("representation/bias", "pre_logits/bias"),
    ("head/kernel", "head/kernel"),
    ("head/bias", "head/bias"),
)
_MODULES = (
    ("LayerNorm_0/", "LayerNorm_0/", ("scale", "bias")),
    *(
        (f"{_ATTENTION}{part}/", f"MultiHeadDotProductAttention_1/{part}/", ("kernel", "bias"))
        for part in (*_PARTS, "out")
    ),
    ("LayerNorm_1/", "LayerNorm_2/", ("scale", "bias")),
    ("MlpBlock_0/Dense_0/", "MlpBlock_3/Dense_0/", ("kernel", "bias")),
    ("MlpBlock_0/Dense_1/", "MlpBlock_3/Dense_1/", ("kernel", "bias")),
)
_ROWS = [Row(*row) for row in _TABLE] + [
    Row(_OURS + ours + leaf, "Transformer/encoderblock_{0}/" + theirs + leaf)
    for ours, theirs, leaves in _MODULES
    for leaf in leaves
]
_ALIASES = (
    (r"/LayerNorm_[1-9]\d*/", "/LayerNorm_2/"),
    (r"/MultiHeadDotProductAttention_\d+/", "/MultiHeadDotProductAttention_1/"),
    (r"/MlpBlock_\d+/", "/MlpBlock_3/"),
)


def _unstacked(arrays):
    found = {}
    for name, array in arrays.items():
        start, stacked, rest = name.partition("Transformer/encoderblock/")
        if stacked:
            found |= {f"{start}Transformer/encoderblock_{i}/{rest}": a for i, a in enumerate(array)}
        else:
            found[name] = array
    return found


def _with_row_for_class_token(table, model):
    none = np.zeros((1, int(model.pooling == "token"), table.shape[2]), table.dtype)
    return np.concatenate([none, table], axis=1)


# timm's [3 D, D] is query, key and value, each split by head.
_QKV_KERNEL = Layout(
    lambda a, m: a.reshape(3, m.num_heads, -1, a.shape[1]).transpose(0, 3, 1, 2),
    lambda a, m: a.transpose(0, 2, 3, 1).reshape(-1, a.shape[1]),
)
_QKV_BIAS = Layout(lambda a, m: a.reshape(3, m.num_heads, -1), lambda a, m: a.ravel())
_OUT_KERNEL = Layout(
    lambda a, m: a.T.reshape(m.num_heads, -1, len(a)),
    lambda a, m: a.reshape(-1, a.shape[2]).T,
)

_TIMM = torch_rows(
    ("stem/kernel", "patch_embed.proj.weight"),
    ("stem/bias", "patch_embed.proj.bias"),
    ("cls", "cls_token"),
    ("pos_embedding", "pos_embed"),
    *(
        (_OURS + ours, "blocks.{0}." + theirs, *layout)
        for ours, theirs, *layout in (
            ("LayerNorm_0/scale", "norm1.weight"),
            ("LayerNorm_0/bias", "norm1.bias"),
            (_ATTENTION + "out/kernel", "attn.proj.weight", _OUT_KERNEL),
            (_ATTENTION + "out/bias", "attn.proj.bias"),
            ("LayerNorm_1/scale", "norm2.weight"),
            ("LayerNorm_1/bias", "norm2.bias"),
            ("MlpBlock_0/Dense_0/kernel", "mlp.fc1.weight"),
            ("MlpBlock_0/Dense_0/bias", "mlp.fc1.bias"),
            ("MlpBlock_0/Dense_1/kernel", "mlp.fc2.weight"),
            ("MlpBlock_0/Dense_1/bias", "mlp.fc2.bias"),
        )
    ),
    *(
        (
            tuple(f"{_OURS}{_ATTENTION}{part}/{ours}" for part in _PARTS),
            "blocks.{0}.attn.qkv." + theirs,
            layout,
        )
        for ours, theirs, layout in (("kernel", "weight", _QKV_KERNEL), ("bias", "bias", _QKV_BIAS))
    ),
    ("encoder_norm/scale", "norm.weight"),
    ("encoder_norm/bias", "norm.bias"),
    ("head/kernel", "head.weight"),
    ("head/bias", "head.bias"),
)


def _patches(arrays):
    table = arrays.get("pos_embedding")
    return None if table is None or table.ndim != 3 else table.shape[1] - ("cls" in arrays)


VIT = Family(
    "ViT",
    (
        NameTable(
            "the published names",
            "Transformer/posembed_input/pos_embedding",
            [*_ROWS, Row("pos_embedding", "Transformer/posembed_input/pos_embedding")],
            aliases=_ALIASES,
        ),
        NameTable(
            "big_vision's names",
            "pos_embedding",
            [*_ROWS, Row("pos_embedding", "pos_embedding", Layout(_with_row_for_class_token))],
            aliases=_ALIASES,
            prepare=_unstacked,
        ),
        NameTable("timm's names", "pos_embed", _TIMM),
    ),
    _patches,
)

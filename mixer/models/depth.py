"""The depth of each parameter in its model: stem, blocks in their order, head."""

import re

import jax
import numpy as np
from flax import linen as nn

from mixer import batch as batch_lib

# As `stack` names them: MixerBlock_3, encoderblock_3, stage_1_unit_3.
_BLOCK = re.compile(r".*(block|unit)_\d+", re.IGNORECASE)
_HEAD = "head"


def layers(model: nn.Module, image_size: tuple[int, int]) -> dict[str, int] | None:
    """{module or parameter at the top of the tree: layer}; None if the model has no blocks.

    With L blocks, the stem is layer 0, the blocks are layers 1 to L, and the head is layer L + 1,
    as timm counts them for layer-wise learning-rate decay. What lies between two blocks belongs to
    the second of them, and a norm or a layer behind the last block to that one.
    """
    top: list[str] = []

    def init(key, images):
        # A dict keeps the order in which the model makes its parameters; jax sorts it by name.
        params = model.init(key, images)["params"]
        top.extend(params)
        return params

    images = jax.ShapeDtypeStruct((1, *image_size, batch_lib.channels(model)), np.float32)
    jax.eval_shape(init, jax.random.key(0), images)
    blocks = [i for i, name in enumerate(top) if _BLOCK.fullmatch(name)]
    if not blocks:
        return None
    found = {}
    for i, name in enumerate(top):
        before = sum(block < i for block in blocks)
        is_stem = not before and i not in blocks
        found[name] = 0 if is_stem else min(before + 1, len(blocks))
    return found | ({_HEAD: len(blocks) + 1} if _HEAD in found else {})

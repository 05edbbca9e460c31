"""Blocked local self-attention against its definition, pixel by pixel."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from mixer.models.halonet import HaloAttention

BLOCK, HALO, HEADS = 4, 1, 2
WINDOW = BLOCK + 2 * HALO


def attention(stride):
    return HaloAttention(6, HEADS, BLOCK, HALO, stride, "float32")


def random_params(model, x):
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


def by_definition(params, x, stride):
    """Every query looks at each pixel within HALO of the block that it lies in."""
    n, height, width, channels = x.shape
    memory = x @ params["key_value"]["kernel"]
    padded = np.pad(memory, ((0, 0), (9, 9), (9, 9), (0, 0)))  # zeros beyond the border
    query, found = x @ params["query"]["kernel"], []
    for image, i, j, head in np.ndindex(n, -(-height // stride), -(-width // stride), HEADS):
        i, j = i * stride, j * stride
        q = np.split(query[image, i, j], HEADS)[head]
        top, left = i // BLOCK * BLOCK - HALO, j // BLOCK * BLOCK - HALO
        logits, values = [], []
        for row in range(top, top + WINDOW):
            for column in range(left, left + WINDOW):
                key, value = np.split(padded[image, row + 9, column + 9], [channels])
                position = params["relative_rows"][row - i + WINDOW - 1]
                position = position + params["relative_columns"][column - j + WINDOW - 1]
                logits.append(q @ (np.split(key, HEADS)[head] + position) / len(q) ** 0.5)
                values.append(np.split(value, HEADS)[head])
        weights = np.exp(np.array(logits) - np.max(logits))
        found.append(weights / weights.sum() @ np.array(values))
    return np.reshape(found, (n, -(-height // stride), -(-width // stride), -1))


@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize("size", [(8, 12), (9, 6)])  # the blocks tile it, or stand out
def test_attention_is_its_definition(stride, size):
    x = np.random.default_rng(0).standard_normal((2, *size, 8)).astype(np.float32)
    model = attention(stride)
    params = random_params(model, x)
    with jax.default_matmul_precision("highest"):
        found = jax.jit(model.apply)({"params": params}, x)
    np.testing.assert_allclose(found, by_definition(params, x, stride), atol=2e-5)


def test_offsets_that_no_window_holds_are_never_used():
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 8)).astype(np.float32)
    params = random_params(attention(1), x)
    grads = jax.jit(jax.grad(lambda p: (attention(1).apply({"params": p}, x) ** 2).sum()))(params)
    for name, grad in traverse_util.flatten_dict(grads, sep="/").items():
        used = np.abs(grad).max(axis=1) > 0
        unused = HALO if name.startswith("relative") else 0
        assert not used[:unused].any() and not used[len(used) - unused :].any(), name
        assert used[unused : len(used) - unused].all(), name


def test_blocks_must_halve():
    model = HaloAttention(8, 2, 5, 1, 2, "float32")
    with pytest.raises(ValueError, match="block_size=5: expected an even number"):
        jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 10, 10, 8), np.float32))

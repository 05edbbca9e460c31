"""ONNX by jax2onnx, checked with onnxruntime.

jax2onnx lacks some primitives of JAX, or writes them wrongly for a batch of any size. `_rewritten`
computes them from others that it writes well.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend import core

from mixer import errors, storage
from mixer.weights.programs.quiet import quiet

USE = "onnxruntime.InferenceSession(PATH).run(['logits'], {'images': images})[0]"
BATCH = "batch"  # any number
# ReduceSum has had its axes as an input since 18, as jax2onnx writes it.
_OPSET = 18
_LOGGERS = ("jax2onnx", "onnx_ir")


def check() -> None:
    """See `programs.Format`."""
    try:
        with quiet(*_LOGGERS):
            import jax2onnx  # noqa: F401 an optional dependency
            import onnxruntime  # noqa: F401 which it brings
    except ImportError:
        raise errors.needs_package("an .onnx file", "jax2onnx", "onnx") from None


def write(path: Path, function: Callable, params: Any, shape: tuple[int, int, int]) -> None:
    """See `programs.Format`."""
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    traced = jax.make_jaxpr(lambda images: function(params, images))(images)
    with quiet(*_LOGGERS):
        import jax2onnx

        made = jax2onnx.to_onnx(
            lambda images: _rewritten(traced, images)[0],
            [images],
            model_name=path.stem,
            opset=_OPSET,
            input_names=["images"],
            output_names=["logits"],
        )
    with storage.write_whole(path) as file:
        file.write(made.SerializeToString())


def run(path: Path, images: np.ndarray) -> np.ndarray:
    """See `programs.Format`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def _rewritten(traced: core.ClosedJaxpr | core.Jaxpr, *arguments: jax.Array) -> list[jax.Array]:
    """Computes a traced function, with other operations for those of `_REWRITES`."""
    jaxpr, constants = getattr(traced, "jaxpr", traced), getattr(traced, "consts", ())
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= zip(jaxpr.invars, arguments, strict=True)

    def value(of):
        return of.val if isinstance(of, core.Literal) else known[of]

    for equation in jaxpr.eqns:
        name, given = equation.primitive.name, map(value, equation.invars)
        if inner := _CALLS.get(name):
            found = _rewritten(equation.params[inner], *given)
        elif rewrite := _REWRITES.get(name):
            found = [rewrite(*given, **equation.params)]
        else:
            found = equation.primitive.bind(*given, **equation.params)
            found = found if equation.primitive.multiple_results else [found]
        known |= zip(equation.outvars, found, strict=True)
    return [value(of) for of in jaxpr.outvars]


def _pad(x: jax.Array, fill: jax.Array, *, padding_config) -> jax.Array:
    """`jax.lax.pad` by concatenation."""
    for axis, (low, high, between) in enumerate(padding_config):
        if low < 0 or high < 0 or between:
            raise NotImplementedError("pad that cuts, or fills between elements")
        shapes = [(*x.shape[:axis], width, *x.shape[axis + 1 :]) for width in (low, high)]
        before, after = ([jnp.broadcast_to(fill, s)] if s[axis] > 0 else [] for s in shapes)
        x = jnp.concatenate([*before, x, *after], axis) if before or after else x
    return x


def _max_pool(x: jax.Array, *, window_dimensions, window_strides, padding, **_) -> jax.Array:
    """Flax's own call, which jax2onnx turns into MaxPool; only its keywords are recognised.

    It leaves out a padding that is given in numbers, so that comes before.
    """
    lowest = jnp.array(-jnp.inf, x.dtype)
    return nn.max_pool(
        _pad(x, lowest, padding_config=[(low, high, 0) for low, high in padding]),
        window_shape=window_dimensions[1:-1],
        strides=window_strides[1:-1],
        padding="VALID",
    )


def _stack(*arrays: jax.Array, axis: int) -> jax.Array:
    """`jnp.stack` by concatenation."""
    return jnp.concatenate([jnp.expand_dims(x, axis) for x in arrays], axis)


# Primitives that call a traced function -> the parameter that has it.
_CALLS = {
    "jit": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
_REWRITES = {"pad": _pad, "reduce_window_max": _max_pool, "stack": _stack}

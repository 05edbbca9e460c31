"""Multiply-accumulates of a function, counted from its jaxpr. Each is two FLOPs.

Matrix products and convolutions count, nothing else. A convolution does kernel size x input
channels / groups for each of its outputs, taps on the padding included, as papers count. XLA's own
count leaves those taps out: 0.82 of this for a 3x3 kernel on 7x7. The zeros between the inputs of a
transposed convolution (a gradient's) count nowhere.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxprs_in_params


class Uncountable(Exception):
    """Products in a loop without a known length, or in a kernel."""


# Equations that run one jaxpr once, on their own inputs.
_CALLS = {
    "jit",
    "closed_call",
    "core_call",
    "remat2",
    "checkpoint",
    "custom_jvp_call",
    "custom_vjp_call",
}


def macs(function: Callable, *args) -> int:
    """Multiply-accumulates of function(*args); nothing is computed.

    A scan counts its length times, a conditional as its largest branch, a shard_map on all its
    devices together.

    Args:
      *args: trees of arrays or of `jax.ShapeDtypeStruct`.

    Raises:
      Uncountable: see there.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _count(jaxpr, [False] * len(jaxpr.invars))[0]


def forward_macs(model, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates of a model's answer to one image of (height, width).

    Raises:
      Uncountable: see there.
    """
    return macs(
        lambda params, images: model.apply({"params": params}, images), *_inputs(model, image_size)
    )


def training_macs(model, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates of one training image: the answer, and the gradient by all parameters.

    A product is done once forwards, and backwards once for each of its two factors that depends on
    the parameters. What rematerialisation does again is not counted: it is no part of the model.

    Raises:
      Uncountable: see there.
    """

    def apply(params, images, key):
        return model.apply({"params": params}, images, train=True, rngs={"dropout": key})

    params, images = _inputs(model, image_size)
    key = jax.eval_shape(lambda: jax.random.key(0))
    jaxpr = jax.make_jaxpr(apply)(params, images, key).jaxpr
    learned = len(jax.tree.leaves(params))
    return _count(jaxpr, [i < learned for i in range(len(jaxpr.invars))])[0]


def _inputs(model, image_size):
    images = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"], images


def _count(jaxpr: Jaxpr, learned: Sequence[bool]) -> tuple[int, list[bool]]:
    """Of a jaxpr with inputs of which some are `learned`, that is have a gradient.

    Returns:
      Its multiply-accumulates, backward ones included; which outputs depend on learned inputs.
    """
    total, known = 0, dict(zip(jaxpr.invars, learned, strict=True))

    def of(variables):
        return [not isinstance(v, Literal) and known.get(v, False) for v in variables]

    for equation in jaxpr.eqns:
        count, outputs = _count_equation(equation, of(equation.invars))
        total += count
        for variable, output in zip(equation.outvars, outputs, strict=True):
            real = jnp.issubdtype(getattr(variable.aval, "dtype", None), jnp.inexact)
            known[variable] = output and real
    return total, of(jaxpr.outvars)


def _count_equation(equation: JaxprEqn, learned: list[bool]) -> tuple[int, list[bool]]:
    name, params = equation.primitive.name, equation.params
    outputs = [any(learned) and name != "stop_gradient"] * len(equation.outvars)
    if name == "dot_general":
        return _dot_general(equation) * (1 + sum(learned)), outputs
    if name == "conv_general_dilated":
        return _convolution(equation) * (1 + sum(learned)), outputs
    inner = list(jaxprs_in_params(params))
    if name in _CALLS:
        return _count(*inner, learned)
    if name == "shard_map":
        count, outputs = _count(*inner, learned)
        # Called manual_axes or newly_manual_axes, by the version of JAX.
        (axes,) = (value for key, value in params.items() if key.endswith("manual_axes"))
        return count * math.prod(params["mesh"].shape[axis] for axis in axes), outputs
    if name == "cond":
        counts, outputs = zip(*(_count(branch, learned[1:]) for branch in inner), strict=True)
        return max(counts), [any(output) for output in zip(*outputs, strict=True)]
    if name == "scan":
        return _scan(equation, *inner, learned)
    if any(_count(jaxpr, [False] * len(jaxpr.invars))[0] for jaxpr in inner):
        raise Uncountable(f"products inside of {name!r} cannot be counted")
    return 0, outputs


def _scan(equation: JaxprEqn, body: Jaxpr, learned: list[bool]) -> tuple[int, list[bool]]:
    # Inputs are constants, carry, slices, and outputs carry, slices; slices have one axis less
    # inside. (The parameters that say how many of each differ between versions of JAX.)
    def slices(outside, inside):
        return sum(o.aval.ndim > i.aval.ndim for o, i in zip(outside, inside, strict=True))

    end = len(learned) - slices(equation.invars, body.invars)
    start = end - (len(body.outvars) - slices(equation.outvars, body.outvars))
    while True:  # a step's carry may depend on what the one before has added
        count, outputs = _count(body, learned)
        carry = [a or b for a, b in zip(learned[start:end], outputs, strict=False)]
        if carry == learned[start:end]:
            return count * equation.params["length"], outputs
        learned = [*learned[:start], *carry, *learned[end:]]


def _dot_general(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[d] for d in contracted)


def _convolution(equation: JaxprEqn) -> int:
    params, kernel = equation.params, equation.invars[1].aval.shape
    output = equation.outvars[0].aval.shape
    numbers = params["dimension_numbers"]
    (rows, channels, *places), (_, inputs, *taps) = numbers.out_spec, numbers.rhs_spec
    total = output[rows] * output[channels] * kernel[inputs]
    for i, (place, tap) in enumerate(zip(places, taps, strict=True)):
        # Where each tap of each output lies, counted from the first input; zeros lie between.
        total *= sum(
            (
                p * params["window_strides"][i]
                + t * params["rhs_dilation"][i]
                - params["padding"][i][0]
            )
            % params["lhs_dilation"][i]
            == 0
            for p in range(output[place])
            for t in range(kernel[tap])
        )
    return total

"""FLOPs of a model: multiply-accumulates, two FLOPs each, counted from the jaxpr of a function.

Also the size of what its matrix products and convolutions read and write.

Only matrix products and convolutions count. A convolution has kernel size x input channels / groups
for each output, including taps on the padding, as papers count. XLA's own count skips those taps
(for a 3x3 kernel on 7x7 it is 0.82 of ours). The zeros that a transposed convolution, as in a
gradient, inserts between its inputs never count.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal, jaxprs_in_params

from mixer import batch as batch_lib


class Uncountable(Exception):
    """Raised for products in a loop of unknown length, or in a custom kernel."""


# (product, which of its factors are marked) -> its measure.
Measure = Callable[[JaxprEqn, list[bool]], int]

# Primitives that run one jaxpr once, on their own inputs.
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
    """Counts the multiply-accumulates of function(*args) without computing it.

    The body of a scan counts as often as it runs, a conditional as its largest branch, and a
    shard_map on all its devices.

    Args:
      *args: trees of arrays or of `jax.ShapeDtypeStruct`.

    Raises:
      Uncountable: products in a loop of unknown length, or in a custom kernel.
    """
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _count(jaxpr, [False] * len(jaxpr.invars), _macs)[0]


def forward_macs(model, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates of a forward pass on one image of (height, width).

    Raises:
      Uncountable: see `macs`.
    """
    return macs(
        lambda params, images: model.apply({"params": params}, images), *_inputs(model, image_size)
    )


def training_macs(model, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates of a forward and a backward pass on one image, for all parameters.

    A product counts once in the forward pass, and in the backward pass once for each of its two
    factors that depends on the parameters. What rematerialisation repeats is not counted, as it is
    not part of the model.

    Raises:
      Uncountable: see `macs`.
    """
    return training(model, image_size).macs


@dataclasses.dataclass(frozen=True)
class Training:
    """What training on one image takes.

    Attributes:
      macs: see `training_macs`.
      elements: of activations and their gradients, which products read and write. A product of an
        activation A with a kernel, whose result is B, reads A and writes B; in the backward pass it
        reads B's gradient twice and A once, and writes A's gradient.
      size: elements of the activations of one image that products read and write: their mean,
        weighted by themselves.
      parameters: their number.
    """

    macs: int
    elements: int
    size: float
    parameters: int


def training(model, image_size: tuple[int, int]) -> Training:
    """Counts a forward and a backward pass on one image of (height, width).

    Raises:
      Uncountable: see `macs`.
    """

    def apply(params, images, key):
        return model.apply({"params": params}, images, train=True, rngs={"dropout": key})

    params, images = _inputs(model, image_size)
    key = jax.eval_shape(lambda: jax.random.key(0))
    jaxpr = jax.make_jaxpr(apply)(params, images, key).jaxpr
    leaves, inputs = jax.tree.leaves(params), range(len(jaxpr.invars))
    of_images = [i == len(leaves) for i in inputs]
    elements = _count(jaxpr, of_images, _elements)[0]
    return Training(
        macs=_count(jaxpr, [i < len(leaves) for i in inputs], _macs)[0],
        elements=3 * elements,
        size=_count(jaxpr, of_images, _squares)[0] / max(elements, 1),
        parameters=sum(leaf.size for leaf in leaves),
    )


def _inputs(model, image_size):
    images = jax.ShapeDtypeStruct((1, *image_size, batch_lib.channels(model)), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"], images


def _count(jaxpr: Jaxpr, marked: Sequence[bool], measure: Measure) -> tuple[int, list[bool]]:
    """The sum of a measure over all products of a jaxpr, of whose inputs some are marked.

    Returns:
      (the sum, which outputs depend on marked inputs).
    """
    total, known = 0, dict(zip(jaxpr.invars, marked, strict=True))

    def of(variables):
        return [not isinstance(v, Literal) and known.get(v, False) for v in variables]

    for equation in jaxpr.eqns:
        count, outputs = _count_equation(equation, of(equation.invars), measure)
        total += count
        for variable, output in zip(equation.outvars, outputs, strict=True):
            real = jnp.issubdtype(getattr(variable.aval, "dtype", None), jnp.inexact)
            known[variable] = output and real
    return total, of(jaxpr.outvars)


def _count_equation(
    equation: JaxprEqn, marked: list[bool], measure: Measure
) -> tuple[int, list[bool]]:
    name, params = equation.primitive.name, equation.params
    outputs = [any(marked) and name != "stop_gradient"] * len(equation.outvars)
    if name in _PRODUCTS:
        return measure(equation, marked), outputs
    inner = list(jaxprs_in_params(params))
    if name in _CALLS:
        return _count(*inner, marked, measure)
    if name == "shard_map":
        count, outputs = _count(*inner, marked, measure)
        # Called manual_axes or newly_manual_axes, by the version of JAX.
        (axes,) = (value for key, value in params.items() if key.endswith("manual_axes"))
        return count * math.prod(params["mesh"].shape[axis] for axis in axes), outputs
    if name == "cond":
        counts, outputs = zip(
            *(_count(branch, marked[1:], measure) for branch in inner), strict=True
        )
        return max(counts), [any(output) for output in zip(*outputs, strict=True)]
    if name == "scan":
        return _scan(equation, *inner, marked, measure)
    if any(_count(jaxpr, [True] * len(jaxpr.invars), measure)[0] for jaxpr in inner):
        raise Uncountable(f"products inside {name!r} cannot be counted")
    return 0, outputs


def _scan(
    equation: JaxprEqn, body: Jaxpr, marked: list[bool], measure: Measure
) -> tuple[int, list[bool]]:
    # The inputs are constants, carry and slices, the outputs carry and slices. Slices have one axis
    # less inside. (The parameters that tell how many of each differ between versions of JAX.)
    def slices(outside, inside):
        return sum(o.aval.ndim > i.aval.ndim for o, i in zip(outside, inside, strict=True))

    end = len(marked) - slices(equation.invars, body.invars)
    start = end - (len(body.outvars) - slices(equation.outvars, body.outvars))
    while True:  # until the set of marked carries no longer grows from step to step
        count, outputs = _count(body, marked, measure)
        carry = [a or b for a, b in zip(marked[start:end], outputs, strict=False)]
        if carry == marked[start:end]:
            return count * equation.params["length"], outputs
        marked = [*marked[:start], *carry, *marked[end:]]


def _macs(equation: JaxprEqn, learned: list[bool]) -> int:
    """Multiply-accumulates of a product: once, and once for the gradient of each learned factor."""
    count = _PRODUCTS[equation.primitive.name](equation)
    return count * (1 + sum(learned))


def _activations(equation: JaxprEqn, of_images: list[bool]) -> list[int]:
    """Elements of each factor that depends on the images, and of the result if it does."""
    factors = zip(equation.invars, of_images, strict=True)
    found = [factor.aval.size for factor, marked in factors if marked]
    return [*found, equation.outvars[0].aval.size] if found else []


def _elements(equation: JaxprEqn, of_images: list[bool]) -> int:
    return sum(_activations(equation, of_images))


def _squares(equation: JaxprEqn, of_images: list[bool]) -> int:
    return sum(size**2 for size in _activations(equation, of_images))


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
        # Position of each tap of each output, from the first input. Between the inputs are zeros.
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


_PRODUCTS = {"dot_general": _dot_general, "conv_general_dilated": _convolution}

"""The optimizer: gradient clipping, Adam and others, weight decay, per-parameter learning rates."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
from flax import traverse_util

from mixer import calls, errors

# Each gives the direction of an update, which the learning rate then scales. Options follow the
# name: "sgd(nesterov=True)".
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.scale_by_adam,
    "sgd": lambda momentum=0.9, nesterov=False, accumulator_dtype=None: optax.trace(
        momentum, nesterov, accumulator_dtype
    ),
    "adabelief": optax.scale_by_belief,
    "amsgrad": optax.scale_by_amsgrad,
    "lion": optax.scale_by_lion,
    "novograd": optax.scale_by_novograd,
    "radam": optax.scale_by_radam,
    "rmsprop": optax.scale_by_rms,
    "yogi": optax.scale_by_yogi,
}

# What each option must be: optax checks none of them, and computes something with most values.
_DTYPES = ("float32", "bfloat16", "float16")
_SHARES = ("b1", "b2", "momentum", "decay")


def parameter_names(params) -> list[str]:
    """Names such as "MixerBlock_0/token_mixing/Dense_0/kernel", in the order of the tree."""
    return list(traverse_util.flatten_dict(params, sep="/"))


def by_name(params, function: Callable[[str], object]):
    """A tree like `params` with `function(name)` at each leaf."""
    flat = {name: function(name) for name in parameter_names(params)}
    return traverse_util.unflatten_dict(flat, sep="/")


def layer_rates(layers: Mapping[str, int], decay: float) -> dict[str, float]:
    """Layer-wise learning-rate decay: {top of a parameter's name: multiplier}; {} for a decay of 1.

    Layer l of 0 (the stem) to N (the head) gets decay ** (N - l), as in BEiT (Bao et al. 2022) and
    MAE (He et al. 2022), with the layers of timm.

    Args:
      layers: {top of a parameter's name: its layer}.
    """
    last = max(layers.values(), default=0)
    return {name: decay ** (last - layer) for name, layer in layers.items() if decay != 1}


def learning_rate_multipliers(
    params, multipliers: Sequence[tuple[str, float]], by_layer: Mapping[str, float] = {}
):
    """The tree of learning-rate multipliers; the first pattern that matches a name decides.

    Args:
      by_layer: `layer_rates`, by which the matching multiplier is multiplied.

    Raises:
      BadInput: an entry that is not a pair (regular expression, multiplier >= 0), or a pattern
        that matches no parameter.
    """
    names = parameter_names(params)
    for entry in multipliers:
        match entry:
            case (str(pattern), int() | float() as multiplier) if multiplier >= 0:
                pass
            case _:
                raise errors.BadInput(
                    f"config.optimizer.multipliers: {entry!r} is not a pair of a regular "
                    f"expression and a multiplier >= 0, as in (('head', 0.1), ('stem', 0))"
                )
        try:
            found = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise errors.BadInput(
                f"config.optimizer.multipliers: {pattern!r} is not a regular expression: {error}"
            ) from None
        if not found:
            raise errors.BadInput(
                f"config.optimizer.multipliers: {pattern!r} matches none of the {len(names)} "
                f"parameters, which are named like {names[0]!r} and {names[-1]!r}"
            )

    def multiplier(name: str) -> float:
        asked = next((float(m) for p, m in multipliers if re.search(p, name)), 1.0)
        return asked * by_layer.get(name.partition("/")[0], 1.0)

    return by_name(params, multiplier)


def by_multiplier(
    params, multipliers: Sequence[tuple[str, float]], by_layer: Mapping[str, float] = {}
) -> dict[float, list[str]]:
    """Parameter names grouped by their learning-rate multiplier, without those of multiplier 1.

    Raises:
      BadInput: see `learning_rate_multipliers`.
    """
    found = {}
    tree = learning_rate_multipliers(params, multipliers, by_layer)
    for name, multiplier in traverse_util.flatten_dict(tree, sep="/").items():
        if multiplier != 1:
            found.setdefault(multiplier, []).append(name)
    return found


def make_optimizer(
    name: str,
    params,
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float,
    agc: float = 0.0,
    multipliers: Sequence[tuple[str, float]] = (),
    by_layer: Mapping[str, float] = {},
) -> optax.GradientTransformation:
    """w -= lr(t) * multiplier * (direction + weight_decay * w); only kernels have weight decay.

    Args:
      name: a key of `OPTIMIZERS`, with options if wanted: "adam(b2=0.95)".
      params: the parameters or their shapes.
      schedule: step -> learning rate.
      weight_decay: decoupled, as in AdamW (the paper's convention); 0 for none.
      clip_norm: maximum global norm of the gradient, over all trained parameters; 0 for none.
      agc: adaptive gradient clipping (Brock et al. 2021), applied before `clip_norm`: maximum
        ratio of the norm of a unit's gradient to the norm of its weights, which counts as 0.001 if
        it is smaller. A unit is one output of a kernel of rank 2 or 4, or a whole vector or scalar.
        The head's kernel is not clipped. 0 for none.
      multipliers: pairs (regular expression, learning-rate multiplier). A multiplier of 0 freezes:
        no update, no weight decay, and the gradient does not count in the global norm.
      by_layer: `layer_rates`; a parameter's rate has the product of both multipliers.

    Raises:
      BadInput: an unknown name or option, an option that makes no sense, bad multipliers, or all
        parameters frozen.
    """
    tree = learning_rate_multipliers(params, multipliers, by_layer)
    values = set(jax.tree.leaves(tree))
    if values == {0.0}:
        raise errors.BadInput("config.optimizer.multipliers freezes every parameter")
    kernels = by_name(params, lambda n: n.endswith("/kernel"))
    chain = []
    if agc:
        clipped = by_name(params, lambda n: n != "head/kernel")
        chain.append(optax.masked(optax.adaptive_grad_clip(agc, eps=1e-3), clipped))
    if clip_norm:
        chain.append(optax.clip_by_global_norm(clip_norm))
    _check_options(name)
    chain.append(calls.build("optimizer", name, OPTIMIZERS))
    if weight_decay:
        chain.append(optax.add_decayed_weights(weight_decay, mask=kernels))
    chain.append(optax.scale_by_learning_rate(schedule))
    trained = optax.chain(*chain)
    if values == {1.0}:
        return trained
    if values - {0.0, 1.0}:
        trained = optax.chain(trained, _scale_by(tree))
    if 0.0 not in values:
        return trained
    labels = jax.tree.map(lambda multiplier: "trained" if multiplier else "frozen", tree)
    return optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, labels)


def _check_options(text: str) -> None:
    """Refuses values of options with which training would be something else than asked for."""
    name, args, kwargs = calls.parse(text)
    try:
        signature = inspect.signature(OPTIMIZERS[name])
        options = signature.bind(*args, **kwargs).arguments
    except (KeyError, TypeError):
        return  # `calls.build` has a message for it
    for option, value in options.items():
        if expected := _expected(option, value, signature.parameters[option].default):
            raise errors.BadInput(f"optimizer {text!r}: {option}={value!r}: expected {expected}")


def _expected(option: str, value: Any, default: Any) -> str:
    """What the value of an option should have been; "" if it is good."""
    if option.endswith("dtype"):
        return "" if value is None or value in _DTYPES else f"one of {', '.join(_DTYPES)}"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "True or False"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "text"
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if option in _SHARES:
        return "" if number and 0 <= value < 1 else "a number from 0 to below 1"
    return "" if number and value >= 0 else "a number that is not negative"


def _scale_by(multipliers) -> optax.GradientTransformation:
    # Within optax.partition the frozen leaves of the updates are MaskedNodes, which pass through.
    def update(updates, params=None):
        masked = optax.MaskedNode
        return jax.tree.map(
            lambda u, multiplier: u if isinstance(u, masked) else u * multiplier,
            updates,
            multipliers,
            is_leaf=lambda leaf: isinstance(leaf, masked),
        )

    return optax.stateless(update)

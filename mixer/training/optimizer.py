"""The optimizer as a chain: clip, direction, decoupled decay, rate, per-parameter multipliers."""

import re
from collections.abc import Callable, Sequence

import jax
import optax
from flax import traverse_util

from mixer import calls, errors

# Directions, before the learning rate. Options are written behind the name: "sgd(nesterov=True)".
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


def parameter_names(params) -> list[str]:
    """Names such as "MixerBlock_0/token_mixing/Dense_0/kernel", in the tree's order."""
    return list(traverse_util.flatten_dict(params, sep="/"))


def by_name(params, function: Callable[[str], object]):
    """A tree like `params` that holds `function(name)` at each leaf."""
    flat = {name: function(name) for name in parameter_names(params)}
    return traverse_util.unflatten_dict(flat, sep="/")


def rate_multipliers(params, multipliers: Sequence[tuple[str, float]]):
    """The tree of learning-rate multipliers: of several patterns that match, the first decides.

    Raises:
      BadInput: a pattern that is no regular expression or that matches no parameter.
    """
    names = parameter_names(params)
    for entry in multipliers:
        match entry:
            case (str(pattern), int() | float() as multiplier) if multiplier >= 0:
                pass
            case _:
                raise errors.BadInput(
                    f"config.optimizer.multipliers: {entry!r} is no pair of a regular expression "
                    f"and a multiplier, as in (('head', 0.1), ('stem', 0))"
                )
        try:
            found = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise errors.BadInput(
                f"config.optimizer.multipliers: {pattern!r} is no regular expression: {error}"
            ) from None
        if not found:
            raise errors.BadInput(
                f"config.optimizer.multipliers: {pattern!r} matches none of the {len(names)} "
                f"parameters, which are named like {names[0]!r} and {names[-1]!r}"
            )

    return by_name(
        params, lambda name: next((float(m) for p, m in multipliers if re.search(p, name)), 1.0)
    )


def by_multiplier(params, multipliers: Sequence[tuple[str, float]]) -> dict[float, list[str]]:
    """The names of the parameters by the multiplier of their rate, those of 1 left out.

    Raises:
      BadInput: as `rate_multipliers`.
    """
    found = {}
    rates = traverse_util.flatten_dict(rate_multipliers(params, multipliers), sep="/")
    for name, rate in rates.items():
        if rate != 1:
            found.setdefault(rate, []).append(name)
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
) -> optax.GradientTransformation:
    """w -= rate(t) * multiplier * (direction + weight_decay * w), decay on kernels only.

    Args:
      name: from `OPTIMIZERS`, with options behind it if wanted: "adam(b2=0.95)".
      params: the parameters or their shapes.
      schedule: step -> learning rate.
      weight_decay: decoupled, AdamW's form (the paper's convention); 0 for none.
      clip_norm: largest global norm of the gradient, all trained parameters together; 0 for none.
      agc: adaptive gradient clipping, before that (Brock et al. 2021): largest norm of a unit's
        gradient, as a share of that of its weights or of 0.001. A unit is an output of a kernel of
        rank 2 or 4, or a vector or scalar as a whole; the head's kernel is left out. 0 for none.
      multipliers: (regular expression, multiplier of the rate); 0 freezes: no update, no decay,
        and no part in the norm.

    Raises:
      BadInput: unknown name or option, a pattern that matches nothing.
    """
    rates = rate_multipliers(params, multipliers)
    values = set(jax.tree.leaves(rates))
    if values == {0.0}:
        raise errors.BadInput("config.optimizer.multipliers freezes every parameter")
    kernels = by_name(params, lambda n: n.endswith("/kernel"))
    chain = []
    if agc:
        clipped = by_name(params, lambda n: n != "head/kernel")
        chain.append(optax.masked(optax.adaptive_grad_clip(agc, eps=1e-3), clipped))
    if clip_norm:
        chain.append(optax.clip_by_global_norm(clip_norm))
    chain.append(calls.build("optimizer", name, OPTIMIZERS))
    if weight_decay:
        chain.append(optax.add_decayed_weights(weight_decay, mask=kernels))
    chain.append(optax.scale_by_learning_rate(schedule))
    trained = optax.chain(*chain)
    if values == {1.0}:
        return trained
    if values - {0.0, 1.0}:
        trained = optax.chain(trained, _scale_by(rates))
    if 0.0 not in values:
        return trained
    labels = jax.tree.map(lambda rate: "frozen" if rate == 0 else "trained", rates)
    return optax.partition({"trained": trained, "frozen": optax.set_to_zero()}, labels)


def _scale_by(rates) -> optax.GradientTransformation:
    # Inside a partition the frozen leaves are absent from the updates: masked nodes pass through.
    def update(updates, params=None):
        masked = optax.MaskedNode
        return jax.tree.map(
            lambda u, rate: u if isinstance(u, masked) else u * rate,
            updates,
            rates,
            is_leaf=lambda leaf: isinstance(leaf, masked),
        )

    return optax.stateless(update)

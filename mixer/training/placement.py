"""Where each array of the training state lives: rules (regular expression, axes) over a mesh.

A parameter takes the first rule that its name matches, and is whole on every device if none does.
The axes are one of the mesh for each dimension, None for a dimension that is not split; or the name
of one axis alone, which splits the largest dimension that its size divides.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixer import errors
from mixer.training.sharding import AXES

Rule = tuple[str, str | tuple[str | None, ...]]
STRATEGIES: dict[str, tuple[Rule, ...]] = {
    "replicate": (),
    # Fully sharded data parallelism (ZeRO-3); biases and norms, below 1 % of a Mixer, stay whole.
    # The head is split by the model's width, which divides more often than a number of classes.
    "fsdp": (("head/kernel$", ("fsdp",)), ("kernel$", "fsdp")),
    # An experiment, for Mixers only: both MLPs split by their hidden units, as Megatron does.
    "tensor": (
        ("_mixing/Dense_0/kernel$", (None, "tensor")),
        ("_mixing/Dense_0/bias$", ("tensor",)),
        ("_mixing/Dense_1/kernel$", ("tensor", None)),
        ("head/kernel$", ("fsdp",)),
        ("kernel$", "fsdp"),
    ),
}


def parameter_specs(shapes: Any, mesh: Mesh, rules: Sequence[Rule]) -> Any:
    """The tree of `PartitionSpec`s of parameters with these shapes.

    Raises:
      BadInput: a rule that cannot be read or that matches no parameter, or a dimension that its
        axis does not divide.
    """
    flat = traverse_util.flatten_dict(shapes, sep="/")
    patterns = {_read(rule, mesh)[0] for rule in rules}
    unused = {each for each in patterns if not any(re.search(each, name) for name in flat)}
    if unused:
        first, *_, last = flat
        raise errors.BadInput(
            f"a rule of config.runtime.strategy or config.runtime.rules, {min(unused)!r}, matches "
            f"none of the {len(flat)} parameters, which are named like {first!r} and {last!r}"
        )
    specs = {}
    for name, array in flat.items():
        axes = next((axes for pattern, axes in rules if re.search(pattern, name)), ())
        specs[name] = _spec(name, array.shape, axes, mesh)
    return traverse_util.unflatten_dict(specs, sep="/")


def _read(rule: Rule, mesh: Mesh) -> Rule:
    match rule:
        case (str(pattern), str() | tuple() as axes):
            used = (axes,) if isinstance(axes, str) else [axis for axis in axes if axis is not None]
            for axis in used:
                if axis not in mesh.shape:
                    raise errors.unknown("axis in config.runtime.rules", axis, AXES)
            try:
                re.compile(pattern)
            except re.error as error:
                raise errors.BadInput(
                    f"config.runtime.rules: {pattern!r} is no regular expression: {error}"
                ) from None
            return rule
    raise errors.BadInput(
        f"config.runtime.rules: {rule!r} is no pair of a regular expression and axes, as in "
        f"(('stem/kernel', 'fsdp'), ('head/kernel', ('fsdp', None)), ('bias', ()))"
    )


def _spec(name: str, shape: tuple[int, ...], axes, mesh: Mesh) -> PartitionSpec:
    if isinstance(axes, str):
        ways = mesh.shape[axes]
        fits = [d for d in range(len(shape)) if shape[d] % ways == 0]
        if not fits:
            raise errors.BadInput(
                f"config.runtime.mesh.{axes}={ways} divides no dimension of {name} {shape}: take "
                f"another size, or {_kept_whole(name)}"
            )
        largest = max(fits, key=lambda d: (shape[d], d))
        axes = tuple(axes if d == largest else None for d in range(len(shape)))
    if len(axes) > len(shape):
        raise errors.BadInput(f"config.runtime.rules: {axes} has more entries than {name} {shape}")
    for size, axis in zip(shape, axes, strict=False):
        if axis is not None and size % mesh.shape[axis]:
            raise errors.BadInput(
                f"config.runtime.mesh.{axis}={mesh.shape[axis]} does not divide {size}, a "
                f"dimension of {name} {shape}: take another size, or {_kept_whole(name)}"
            )
    return PartitionSpec(*axes)


def _kept_whole(name: str) -> str:
    """How it is, in all blocks."""
    pattern = re.sub(r"\d+", r"\\d+", name)
    return f"keep it whole by --config.runtime.rules=\"((r'{pattern}', ()),)\""


def shardings(tree: Any, params: Any, mesh: Mesh, rules: Sequence[Rule]) -> Any:
    """The tree of `NamedSharding`s of `tree`, a training state or a part of one.

    Whatever is named like a parameter and has its shape (gradients, the optimizer's moments,
    averaged parameters) lies where the parameter does, all else whole on every device.

    Args:
      tree, params: arrays or their shapes.
    """
    specs = traverse_util.flatten_dict(parameter_specs(params, mesh, rules), sep="/")
    shapes = {name: x.shape for name, x in traverse_util.flatten_dict(params, sep="/").items()}

    def place(path, leaf):
        parts = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        tails = ("/".join(parts[i:]) for i in range(len(parts)))
        name = next((t for t in tails if shapes.get(t) == leaf.shape), None)
        return NamedSharding(mesh, specs[name] if name else PartitionSpec())

    return jax.tree_util.tree_map_with_path(place, tree)

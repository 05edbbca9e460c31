"""Parameter placement: how replication, FSDP and tensor parallelism shard the training state.

Rules (regular expression, axes) shard parameters over a mesh. The first rule that matches a
parameter's name decides; a parameter that no rule matches is replicated. Axes are a tuple with a
mesh axis, or None for no sharding, for each dimension; or one mesh axis, which shards the largest
dimension that it divides.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixer import errors
from mixer.training.meshes import AXES

PlacementRule = tuple[str, str | tuple[str | None, ...]]
STRATEGIES: dict[str, tuple[PlacementRule, ...]] = {
    "replicate": (),
    # Fully sharded data parallelism (ZeRO-3). Biases and norms, below 1 % of a Mixer, are
    # replicated. The head is sharded by the model's width: the mesh divides it more often than the
    # number of classes.
    "fsdp": (("head/kernel$", ("fsdp",)), ("kernel$", "fsdp")),
    # Experimental, for Mixers only: both MLPs sharded by their hidden units, as in Megatron.
    "tensor": (
        ("_mixing/Dense_0/kernel$", (None, "tensor")),
        ("_mixing/Dense_0/bias$", ("tensor",)),
        ("_mixing/Dense_1/kernel$", ("tensor", None)),
        ("head/kernel$", ("fsdp",)),
        ("kernel$", "fsdp"),
    ),
}


def parameter_specs(shapes: Any, mesh: Mesh, rules: Sequence[PlacementRule]) -> Any:
    """The tree of `PartitionSpec`s for parameters of these shapes.

    Raises:
      BadInput: a malformed rule, a rule that matches no parameter, or a dimension that its mesh
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


def _read(rule: PlacementRule, mesh: Mesh) -> PlacementRule:
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
                    f"config.runtime.rules: {pattern!r} is not a regular expression: {error}"
                ) from None
            return rule
    raise errors.BadInput(
        f"config.runtime.rules: {rule!r} is not a pair of a regular expression and axes, as in "
        f"(('stem/kernel', 'fsdp'), ('head/kernel', ('fsdp', None)), ('bias', ()))"
    )


def _spec(name: str, shape: tuple[int, ...], axes, mesh: Mesh) -> PartitionSpec:
    if isinstance(axes, str):
        ways = mesh.shape[axes]
        fits = [d for d in range(len(shape)) if shape[d] % ways == 0]
        if not fits:
            raise errors.BadInput(
                f"config.runtime.mesh.{axes}={ways} divides no dimension of {name} {shape}: use "
                f"another size, or {_how_to_replicate(name)}"
            )
        largest = max(fits, key=lambda d: (shape[d], d))
        axes = tuple(axes if d == largest else None for d in range(len(shape)))
    if len(axes) > len(shape):
        raise errors.BadInput(
            f"config.runtime.rules: {axes} has more entries than {name} {shape} has dimensions"
        )
    for size, axis in zip(shape, axes, strict=False):
        if axis is not None and size % mesh.shape[axis]:
            raise errors.BadInput(
                f"config.runtime.mesh.{axis}={mesh.shape[axis]} does not divide {size}, a "
                f"dimension of {name} {shape}: use another size, or {_how_to_replicate(name)}"
            )
    return PartitionSpec(*axes)


def _how_to_replicate(name: str) -> str:
    pattern = re.sub(r"\d+", r"\\d+", name)  # in all blocks
    return f"replicate it by --config.runtime.rules=\"((r'{pattern}', ()),)\""


def shardings(tree: Any, params: Any, mesh: Mesh, rules: Sequence[PlacementRule]) -> Any:
    """The tree of `NamedSharding`s for `tree`, a training state or a part of one.

    An array with the name and the shape of a parameter (its gradient, its optimizer moments, its
    EMA) is sharded like the parameter. Everything else is replicated.

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

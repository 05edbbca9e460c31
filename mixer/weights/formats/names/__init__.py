"""The names of a file's arrays: without trainers' prefixes, then by each family's table ours."""

import re
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np

from mixer import errors
from mixer.weights.formats.names.bit import BIT
from mixer.weights.formats.names.convnext import CONVNEXT
from mixer.weights.formats.names.gmlp import GMLP
from mixer.weights.formats.names.mixer import MIXER
from mixer.weights.formats.names.nfnet import NFNET
from mixer.weights.formats.names.resmlp import RESMLP
from mixer.weights.formats.names.table import Family
from mixer.weights.formats.names.vit import VIT

FAMILIES = {family.name: family for family in (MIXER, VIT, BIT, RESMLP, GMLP, CONVNEXT, NFNET)}

# In any order: big_vision's, Flax's, PyTorch's wrappers, Lightning's, and averaged weights.
_WORDS = (
    *("params", "opt/target", "target", "img"),
    *("module", "model", "state_dict", "net", "network", "backbone", "_orig_mod"),
    *("model_ema", "ema_model", "ema", "state_dict_ema"),
)
_PREFIX = re.compile(f"((?:{'|'.join(map(re.escape, _WORDS))})[./])*")
# Optimizer state, clocks and counters.
_BESIDE = re.compile(
    r"(opt(?!/target/)|opt_state|optimizer|chrono)/.*|step|epoch|global_step|n_averaged"
    r"|(.*[./])?num_batches_tracked"
)


def family_of(model) -> Family | None:
    """The family whose names the model's parameters have in files; None of one without files."""
    return FAMILIES.get(model.traits.family) if hasattr(model, "traits") else None


def families_of(flat: dict[str, np.ndarray]) -> list[Family]:
    """The families that have a table with the names of a file's arrays."""
    return [f for f in FAMILIES.values() if any(table.holds(flat) for table in f.tables)]


def of_family(flat: dict[str, np.ndarray], source: str, model) -> bool:
    """Whether a table of the model's family has the names of a file's arrays.

    Raises:
      BadInput: a family that has no files.
    """
    return any(table.holds(flat) for table in _known(model, source).tables)


def unwrapped(
    arrays: dict[str, np.ndarray], source: str, holds: Callable[[dict[str, np.ndarray]], bool]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The parameters among a file's arrays, without what trainers put around them.

    That is: prefixes of all names, and optimizer state and counters beside them.

    What is neither under the parameters' prefix nor known to be no parameter keeps its name.

    Args:
      source: where the arrays come from, for the messages.
      holds: whether arrays are named as a family's parameters are.

    Raises:
      BadInput: several sets of parameters, or one that is not of floating-point numbers.
    """
    left_out = {name for name in arrays if _BESIDE.fullmatch(name)}
    sets = {}
    for name, array in arrays.items():
        if name not in left_out:
            prefix = _PREFIX.match(name).group()
            sets.setdefault(prefix, {})[name.removeprefix(prefix)] = array
    prefixes = sorted(prefix for prefix, content in sets.items() if holds(content))
    if len(prefixes) > 1:
        raise errors.BadInput(
            f"{source} holds several sets of parameters, under {', '.join(map(repr, prefixes))}: "
            f"keep one of them"
        )
    found = {}
    for prefix, content in sets.items():
        # A head may lie outside of the backbone, under what both have in common.
        common = prefix if prefixes and prefixes[0].startswith(prefix) else ""
        for rest, array in content.items():
            name = (prefix + rest).removeprefix(common)
            if name in found:
                raise errors.BadInput(f"{source} holds two arrays for {name}")
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise errors.BadInput(
                    f"{source}: {name} is of dtype {array.dtype}, expected floating point"
                )
            found[name] = array
    said = []
    if left_out:
        kinds = sorted({re.search(r"([^./]+)(/|$)", name)[1] for name in left_out})
        said.append(f"{source}: left out what is no parameter: {', '.join(kinds)}")
    if prefixes and "ema" in prefixes[0]:
        said.append(f"{source}: the parameters under {prefixes[0]!r} are averaged ones")
    return found, said


def to_ours(flat: dict[str, np.ndarray], source: str, model) -> tuple[dict[str, np.ndarray], str]:
    """Arrays of a file -> the same under our names, and what the names were.

    A name that no table holds stays as it is, for `fitting.fit` to refuse.

    Args:
      source: where they come from, for the messages.
      model: the Module that they are for.

    Raises:
      BadInput: not arrays of the model's family, or two for one place.
    """
    family = _known(model, source)
    table = next((each for each in family.tables if each.holds(flat)), None)
    if table is None:
        some = ", ".join(sorted(flat)[:5]) or "nothing"
        first, last = (family.tables[i].mark.format(0, 0) for i in (0, -1))
        raise errors.BadInput(
            f"{source} holds no {family.name}'s parameters: expected names such as {first} or "
            f"{last}, found {some}"
        )
    found = {}
    try:
        for theirs, name, array in table.read(flat, model):
            if name in found:
                raise errors.BadInput(
                    f"{source} holds two arrays for {name}, one of them as {theirs}"
                )
            found[name] = array
    except ValueError as error:
        raise errors.BadInput(f"{source} does not fit the model: {error}") from None
    return found, table.title


def to_theirs(flat: dict[str, np.ndarray], model, *, timm: bool) -> dict[str, np.ndarray]:
    """Arrays under our names -> the same as timm has them, or else as they were published.

    Raises:
      BadInput: a family that has no files, or an array that has no place in them.
    """
    table = _known(model, "params").tables[-1 if timm else 0]
    try:
        return table.write(flat, model)
    except KeyError as error:
        raise errors.BadInput(f"{table.title} have none for {error.args[0]}") from None


def in_order(names: Iterable[str]) -> list[str]:
    """Sorted with numbers by their value: block 10 after block 9."""
    parts = {name: re.split(r"([0-9]+)", name) for name in names}
    return sorted(parts, key=lambda name: [int(p) if p.isdecimal() else p for p in parts[name]])


def _known(model, source: str) -> Family:
    if (family := family_of(model)) is None:
        raise errors.BadInput(
            f"{source}: only the parameters of {', '.join(FAMILIES)} can be in a file, and the "
            f"model is a {type(model).__name__}: a training's workdir keeps any model's"
        )
    return family

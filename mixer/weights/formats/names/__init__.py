"""Translates array names between files and our models: strips prefixes, applies family tables."""

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

# Prefixes, in any order, of big_vision, Flax, PyTorch's wrappers, Lightning and averaged weights.
_WORDS = (
    *("params", "opt/target", "target", "img"),
    *("module", "model", "state_dict", "net", "network", "backbone", "_orig_mod"),
    *("model_ema", "ema_model", "ema", "state_dict_ema"),
)
_PREFIX = re.compile(f"((?:{'|'.join(map(re.escape, _WORDS))})[./])*")
# Optimizer state, clocks and counters; `extra` is the clock of the first big_vision.
_BESIDE = re.compile(
    r"(opt(?!/target/)|opt_state|optimizer|chrono|extra)/.*|step|epoch|global_step|n_averaged"
    r"|(.*[./])?num_batches_tracked"
)


def family_of(model) -> Family | None:
    """The family that names the model's parameters in files; None if it has no files."""
    return FAMILIES.get(model.traits.family) if hasattr(model, "traits") else None


def families_of(flat: dict[str, np.ndarray]) -> list[Family]:
    """The families with a table that matches the names of a file's arrays."""
    return [f for f in FAMILIES.values() if any(table.matches(flat) for table in f.tables)]


def of_family(flat: dict[str, np.ndarray], source: str, model) -> bool:
    """Whether a table of the model's family matches the names of a file's arrays.

    Raises:
      BadInput: the model's family has no files.
    """
    return any(table.matches(flat) for table in _known(model, source).tables)


def unwrapped(
    arrays: dict[str, np.ndarray], source: str, matches: Callable[[dict[str, np.ndarray]], bool]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Strips what trainers add to the parameters: prefixes, optimizer state and counters.

    An array that is neither under the parameters' prefix nor known not to be a parameter keeps its
    name.

    Args:
      source: where the arrays come from, for the messages.
      matches: whether arrays are named like a family's parameters.

    Returns:
      The parameters by name, and sentences on what was left out.

    Raises:
      BadInput: there are several sets of parameters, or a parameter is not floating-point.
    """
    left_out = {name for name in arrays if _BESIDE.fullmatch(name)}
    sets = {}
    for name, array in arrays.items():
        if name not in left_out:
            prefix = _PREFIX.match(name).group()
            sets.setdefault(prefix, {})[name.removeprefix(prefix)] = array
    prefixes = sorted(prefix for prefix, content in sets.items() if matches(content))
    if len(prefixes) > 1:
        raise errors.BadInput(
            f"{source} has several sets of parameters, under {', '.join(map(repr, prefixes))}: "
            f"keep one of them"
        )
    found = {}
    for prefix, content in sets.items():
        # A head may be outside the backbone, under the prefix that both share.
        common = prefix if prefixes and prefixes[0].startswith(prefix) else ""
        for rest, array in content.items():
            name = (prefix + rest).removeprefix(common)
            if name in found:
                raise errors.BadInput(f"{source} has two arrays for {name}")
            if not jnp.issubdtype(array.dtype, jnp.floating):
                raise errors.BadInput(
                    f"{source}: {name} is of dtype {array.dtype}, expected floating point"
                )
            found[name] = array
    said = []
    if left_out:
        kinds = sorted({re.search(r"([^./]+)(/|$)", name)[1] for name in left_out})
        said.append(f"{source}: left out arrays that are not parameters: {', '.join(kinds)}")
    if prefixes and "ema" in prefixes[0]:
        said.append(f"{source}: the parameters under {prefixes[0]!r} are averaged")
    return found, said


def to_ours(flat: dict[str, np.ndarray], source: str, model) -> tuple[dict[str, np.ndarray], str]:
    """A file's arrays under our names, and the title of the table that named them.

    A name that is not in the table is kept, for `fitting.fit` to refuse.

    Args:
      source: where they come from, for the messages.
      model: the Module that they are for.

    Raises:
      BadInput: the arrays are not of the model's family, or two have the same name of ours.
    """
    family = _known(model, source)
    table = next((each for each in family.tables if each.matches(flat)), None)
    if table is None:
        some = ", ".join(sorted(flat)[:5]) or "nothing"
        first, last = (family.tables[i].mark.format(0, 0) for i in (0, -1))
        raise errors.BadInput(
            f"{source} has no {family.name} parameters: expected names such as {first} or "
            f"{last}, found {some}"
        )
    found = {}
    try:
        for theirs, name, array in table.read(flat, model):
            if name in found:
                raise errors.BadInput(
                    f"{source} has two arrays for {name}, one of them as {theirs}"
                )
            found[name] = array
    except ValueError as error:
        raise errors.BadInput(f"{source} does not fit the model: {error}") from None
    return found, table.title


def to_theirs(flat: dict[str, np.ndarray], model, *, timm: bool) -> dict[str, np.ndarray]:
    """Arrays under our names -> the same in timm's naming, or else in the published naming.

    Raises:
      BadInput: the model's family has no files, or they have no name for an array.
    """
    table = _known(model, "params").tables[-1 if timm else 0]
    try:
        return table.write(flat, model)
    except KeyError as error:
        raise errors.BadInput(f"{table.title} have none for {error.args[0]}") from None


def in_order(names: Iterable[str]) -> list[str]:
    """The names sorted with numbers by value: block 10 after block 9."""
    parts = {name: re.split(r"([0-9]+)", name) for name in names}
    return sorted(parts, key=lambda name: [int(p) if p.isdecimal() else p for p in parts[name]])


def _known(model, source: str) -> Family:
    if (family := family_of(model)) is None:
        raise errors.BadInput(
            f"{source}: a file can have only the parameters of {', '.join(FAMILIES)}, and the "
            f"model is a {type(model).__name__}: use a workdir, which can have any model's"
        )
    return family

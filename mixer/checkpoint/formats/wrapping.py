"""What trainers put around parameters: prefixes of all names, and what else they save."""

import re
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from mixer import errors

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


def unwrapped(
    arrays: dict[str, np.ndarray], source: str, holds: Callable[[dict[str, np.ndarray]], bool]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The parameters among a file's arrays, without prefixes, and sentences on what else it holds.

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

"""The TPU compiler's own estimate of how many cycles a program takes, from its HLO."""

import re

from mixer.planning import hlo

_ESTIMATE = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLS = ("while", "conditional", "call")


def estimated(text: str) -> int | None:
    """The sum over all instructions of one run; None if there is no estimate.

    What the compiler runs at the same time, such as products and copies, counts twice.

    Args:
      text: `jax.stages.Compiled.as_text()`.
    """
    computations, entry = hlo.parse(text)
    total = 0
    for name, times in hlo.visits(computations, entry, lambda each: each.op in _CALLS):
        found = (_ESTIMATE.search(each.rest) for each in computations[name])
        total += (times or 1) * sum(int(estimate[1]) for estimate in found if estimate)
    return total or None

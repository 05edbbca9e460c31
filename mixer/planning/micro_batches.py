"""How many micro-batches a step needs on devices that have little memory for it."""

from collections.abc import Callable

from mixer.planning import step_time
from mixer.planning.needs import StepCost
from mixer.planning.peaks import Peak

# Above this share of the ideal FLOPs, the compiler computes activations twice to save memory.
_RECOMPUTING = 1.02


def enough(
    own: StepCost,
    given: int,
    images: int,
    peak: Peak | None,
    cost_with: Callable[[int], StepCost],
    *,
    remat: bool = False,
) -> int:
    """The number of micro-batches to take: `given`, or the first of 2, 4, 8, ... that fits.

    Where the compiler makes a step fit by computing activations twice, more micro-batches are taken
    for as long as they take less time by the estimate. `given` is also the answer if nothing fits.

    Args:
      own: the cost with `given` micro-batches.
      images: of the batch, on one device.
      peak: of the device; None if unknown.
      cost_with: number of micro-batches -> the cost.
      remat: activations are to be computed twice.
    """
    taken, cost = given, own
    least = max(given + 1, given * _excess(own))
    for parts in (2**power for power in range(1, images.bit_length())):
        if images % parts or parts < least:
            continue
        wasteful = cost.fits and _recomputes(cost) and not remat
        if cost.fits is not False and not wasteful:
            break
        found = cost_with(parts)
        if not found.fits:
            continue
        if cost.fits and _seconds(found, peak) >= _seconds(cost, peak):
            break
        taken, cost = parts, found
    return taken


def _recomputes(cost: StepCost) -> bool:
    """Whether the compiler computes activations twice."""
    return bool(cost.flops and cost.ideal_flops) and cost.flops > _RECOMPUTING * cost.ideal_flops


def _seconds(cost: StepCost, peak: Peak) -> float:
    return step_time.seconds(cost.flops, cost.accessed, peak)


def _excess(cost: StepCost) -> float:
    """How many times too large the step is: so many micro-batches are needed at least."""
    state = cost.parameters + cost.optimizer + cost.averages
    temporary = cost.temporary or (cost.peak or 0) - state
    left = (cost.capacity or 0) - state
    return temporary / left if left > 0 else 1

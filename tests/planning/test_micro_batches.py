import pytest

from mixer.planning.micro_batches import enough
from mixer.planning.needs import StepCost
from mixer.planning.peaks import Peak

GIB = 2**30


def cost(share=1.0, fits=True, temporary=8):
    """A step of 1e12 FLOPs on a device of 16 GiB, 2 of them for the state; one FLOP takes 1 ps."""
    return StepCost(
        parameters=GIB,
        optimizer=GIB,
        averages=0,
        gradients=GIB,
        temporary=temporary * GIB,
        activations=None,
        peak=None,
        capacity=16 * GIB,
        fits=fits,
        flops=round(share * 1e12) if fits is not False else None,
        accessed=10**9,
        cycles=None,
        flops_per_image=None,
        ideal_flops=1e12,
        sent={},
        collectives={},
        compile_seconds=1.0,
    )


@pytest.mark.parametrize(
    ("costs", "taken"),
    [
        ({1: cost()}, 1),
        ({1: cost(fits=None)}, 1),
        ({1: cost(fits=False, temporary=20), 2: cost()}, 2),
        # 50 GiB cannot fit into 14 in fewer than four parts.
        ({1: cost(fits=False, temporary=50), 4: cost(fits=False), 8: cost()}, 8),
        ({1: cost(fits=False, temporary=50)} | dict.fromkeys((4, 8, 16), cost(fits=False)), 1),
        # The compiler makes it fit by computing activations twice.
        ({1: cost(1.06), 2: cost()}, 2),
        ({1: cost(1.06), 2: cost(1.03), 4: cost()}, 4),
        ({1: cost(1.06), 2: cost(1.06)}, 1),  # which takes no less time
        ({1: cost(fits=False), 2: cost(1.2), 4: cost(1.01)}, 4),
        ({1: cost(1.01)}, 1),
    ],
)
def test_more_are_tried_only_where_memory_is_short(costs, taken):
    tried = [1]

    def cost_with(parts):
        tried.append(parts)
        return costs[parts]

    peak = Peak(1e12, 16 * GIB, 1e11, 1.0)
    assert enough(costs[1], 1, 16, peak, cost_with) == taken
    assert tried == list(costs)


def test_what_is_computed_twice_on_purpose_is_not_split():
    assert enough(cost(1.2), 1, 16, Peak(1e12, 16 * GIB, 1e11, 1.0), {}.get, remat=True) == 1


def test_a_number_that_was_given_is_the_least_and_divides():
    costs = {4: cost(), 8: cost()}
    peak = Peak(1e12, 16 * GIB, 1e11, 1.0)
    assert enough(cost(fits=False), 3, 24, peak, costs.get) == 4
    assert enough(cost(fits=False), 4, 24, peak, costs.get) == 8

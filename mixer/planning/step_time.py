"""The time of a training step before there is a device to measure it on."""

import math

from mixer.planning.peaks import Peak

# The paper's TPUv3 core-days divided by the estimate of their training steps.
PAPER = "0.9 to 1.3 (B/16, L/16, H/14) and up to 2.1 (the smaller Mixers)"


# Passes over this device's parameters in float32: they and Adam's two moments are read and written,
# the gradient is written once and read once.
_OPTIMIZER_PASSES = 8
# Reads and writes of all parameters in the precision of the products: forward, backward, gradient.
_PRODUCT_PASSES = 3


# Bytes that go through the memory for each byte of an activation that a product reads or writes,
# if none of it stays on the chip: what is computed between products reads and writes, too. Of
# compiled steps on v3 (docs/results/plans.csv).
_TRAFFIC = 1.55


def accessed(
    elements: float, size: float, parameters: float, held: float, itemsize: int, peak: Peak
) -> float:
    """Estimates the bytes that a training step reads from and writes to a device's memory.

    An activation of `peak.on_chip` bytes and more does not stay on the chip; of a smaller one the
    part that goes through the memory falls with the square root of its size, a rule that was found
    by fitting. tests/runs/test_estimate.py compares the result with compiled programs.

    Args:
      elements: of activations, which the products on this device read and write
        (`flops.Training`).
      size: elements of such an activation on this device.
      parameters: of the model, times how often a step goes forward and back through it.
      held: those of them that this device holds and updates.
      itemsize: bytes of a number in a product: 2 in bfloat16, 4 in float32.
    """
    moved = min(1.0, math.sqrt(size * itemsize / peak.on_chip)) if peak.on_chip else 1.0
    products = itemsize * (_TRAFFIC * moved * elements + _PRODUCT_PASSES * parameters)
    return products + 4 * _OPTIMIZER_PASSES * held


def seconds(flops: float, accessed: float, peak: Peak) -> float:
    """The time of a program: its FLOPs at the peak rate plus its bytes at the full bandwidth.

    Neither rate is ever reached, and products overlap with memory traffic; in the sum the two
    errors partly cancel. tests/planning/test_step_time.py holds it against the costs that the paper
    prints for its Mixers (table 3), which include evaluations, checkpoints and waiting
    for data: of small models, which need most images a second, the paper's costs are up to twice
    the estimate.

    Args:
      flops: of one device.
      accessed: bytes that it reads from and writes to its memory.
    """
    return flops / peak.flops + accessed / peak.bandwidth

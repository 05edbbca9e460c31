"""The time of a training step before there is a device to measure it on."""

from mixer.planning.peaks import Peak

# The paper's TPUv3 core-days divided by the estimate of their training steps.
PAPER = "0.9 to 1.3 (B/16, L/16, H/14) and up to 2.1 (the smaller Mixers)"


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

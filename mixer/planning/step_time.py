"""The time of a training step before there is a device to measure it on."""

from mixer.planning.peaks import Peak

# The paper's TPUv3 core-days on JFT-300M, in estimates: the larger the model, the nearer to 1.
PAPER = "1.2 (L/16) to 2.1 (B/32)"


def seconds(flops: float, accessed: float, peak: Peak) -> float:
    """The time of a program: its FLOPs at the peak rate plus its bytes at the full bandwidth.

    Neither rate is ever reached, and products overlap with memory traffic; in the sum the two
    errors partly cancel. tests/planning/test_step_time.py holds it against the costs that the paper
    prints for its Mixers on JFT-300M (table 3), which include evaluations, checkpoints and waiting
    for data: of small models, which need most images a second, the paper's costs are up to twice
    the estimate.

    Args:
      flops: of one device.
      accessed: bytes that it reads from and writes to its memory.
    """
    return flops / peak.flops + accessed / peak.bandwidth

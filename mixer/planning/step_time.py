"""The time of a training step before there is a device to measure it on."""

from mixer.planning.peaks import Peak


def seconds(flops: float, accessed: float, peak: Peak) -> float:
    """The time of a program: its FLOPs at the peak rate plus its bytes at the full bandwidth.

    Neither rate is ever reached, and products overlap with memory traffic; in the sum the two
    errors nearly cancel. For the eight Mixers of the paper's tables 2 and 3 whose cost on JFT-300M
    is printed, the paper's TPUv3 core-days are 0.95 to 1.35 times this estimate of their training
    steps (tests/planning/test_step_time.py), and include what is not estimated: evaluations,
    checkpoints and waiting for data.

    Args:
      flops: of one device.
      accessed: bytes that it reads from and writes to its memory.
    """
    return flops / peak.flops + accessed / peak.bandwidth

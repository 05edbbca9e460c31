"""The time of a training step without compiling it: for `show`, `reproduce` and `doctor`.

`plan` compiles the step and is more exact.
"""

import dataclasses
from collections.abc import Sequence

import jax
from flax import linen as nn
from ml_collections import ConfigDict

from mixer import defaults
from mixer.planning import flops, peaks, step_time
from mixer.planning.peaks import Peak
from mixer.runs.model import build_model, image_size_of, model_fields
from mixer.runs.sam import passes

ERROR = "within 12 % of the compiled steps on TPUs, rougher on GPUs"


@dataclasses.dataclass(frozen=True)
class Load:
    """What a training step of a model asks of devices.

    Attributes:
      flops: of one image.
      elements: of activations, which its products read and write for one image.
      size: elements of such an activation; see `flops.Training`.
      parameters: their number.
      passes: how many times a step goes forward and back; `flops` and `elements` are of all.
    """

    flops: float
    elements: float
    size: float
    parameters: int
    passes: int = 1

    def step_seconds(self, batch_size: int, devices: int, peak: Peak) -> float:
        """The time of a step on so many devices, with the precision and sharding by default."""
        images = batch_size / devices
        chosen = defaults.default(peak.platform, images)
        accessed = step_time.accessed(
            self.elements * images,
            self.size * images,
            self.parameters * self.passes,
            self.parameters / chosen.fsdp,
            jax.numpy.dtype(chosen.dtype).itemsize,
            peak,
        )
        return step_time.seconds(self.flops * images, accessed, peak)


def load_of(model: nn.Module, image_size: tuple[int, int], passes: int = 1) -> Load:
    """The load of a model.

    Args:
      passes: how many times a step goes forward and back, see `sam.passes`.

    Raises:
      Uncountable: see `flops.macs`.
    """
    if hasattr(model, "scan"):
        model = model.clone(scan=True)  # faster to trace
    found = flops.training(model, image_size)
    return Load(
        flops=2 * found.macs * passes,
        elements=found.elements * passes,
        size=found.size,
        parameters=found.parameters,
        passes=passes,
    )


def images_per_second(config: ConfigDict, devices: Sequence[jax.Device]) -> float | None:
    """How many images each of all the run's devices could train on in a second, without waiting.

    None if the peak of the devices is unknown, as a CPU's is, or the FLOPs cannot be counted.
    """
    peak = peaks.peak(devices[0])
    if peak is None:
        return None
    fields, size = model_fields(config, devices[0].platform), image_size_of(config)
    name, classes = fields.pop("name"), fields.pop("num_classes")
    # The head is small, so the dataset need not be opened for its number of classes.
    model = build_model(name, fields | {"num_classes": classes or 1}, size)
    try:
        load = load_of(model, size, passes(config))
    except flops.Uncountable:
        return None
    each = config.batch_size / len(devices)
    return each / load.step_seconds(config.batch_size, len(devices), peak)

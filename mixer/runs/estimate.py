"""The time of a training step without compiling it: for `show`, `reproduce` and `doctor`.

`plan` compiles the step and is more exact.
"""

import dataclasses

import jax
from flax import linen as nn

from mixer import defaults
from mixer.planning import flops, step_time
from mixer.planning.peaks import Peak
from mixer.weights import fitting

ERROR = "within 20 % of the compiled steps on TPUs, rougher on GPUs"


@dataclasses.dataclass(frozen=True)
class Load:
    """What a training step of a model asks of devices.

    Attributes:
      flops: of one image.
      elements: of activations, which its products read and write for one image.
      parameters: their number.
    """

    flops: float
    elements: float
    parameters: int

    def step_seconds(self, batch_size: int, devices: int, peak: Peak) -> float:
        """The time of a step on so many devices, with the precision and sharding by default."""
        images = batch_size / devices
        chosen = defaults.default(peak.platform, images)
        accessed = step_time.accessed(
            self.elements * images,
            self.parameters,
            self.parameters / chosen.fsdp,
            jax.numpy.dtype(chosen.dtype).itemsize,
            peak,
        )
        return step_time.seconds(self.flops * images, accessed, peak)


def load_of(model: nn.Module, image_size: tuple[int, int]) -> Load:
    """The load of a model.

    Raises:
      Uncountable: see `flops.macs`.
    """
    if hasattr(model, "scan"):
        model = model.clone(scan=True)  # faster to trace
    return Load(
        flops=2 * flops.training_macs(model, image_size),
        elements=flops.training_elements(model, image_size),
        parameters=sum(x.size for x in jax.tree.leaves(fitting.shapes(model, image_size))),
    )

"""How many images a second the devices need for a training."""

from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from mixer.planning import flops, peaks
from mixer.runs.model import build_model, image_size_of, model_fields

# The share of their peak FLOP/s that devices reach in training.
_REACHED = 0.4


def images_per_second_per_device(config: ConfigDict, devices: Sequence[jax.Device]) -> float | None:
    """How many images each of these devices could train on in a second, if none waits for data.

    An estimate: the FLOPs of training on one image, at 0.4 of the device's peak.

    Returns:
      None if the peak of the devices is unknown, as a CPU's is, or the FLOPs cannot be counted.
    """
    peak = peaks.peak(devices[0])
    if peak is None:
        return None
    fields, size = model_fields(config, devices[0].platform), image_size_of(config)
    name, classes = fields.pop("name"), fields.pop("num_classes")
    # The FLOPs of the head are few, so the dataset need not be opened for its number of classes.
    model = build_model(name, fields | {"num_classes": classes or 1}, size)
    try:
        macs = flops.training_macs(model, size)
    except flops.Uncountable:
        return None
    return _REACHED * peak.flops / (2 * macs)

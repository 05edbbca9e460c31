"""Random brightness, contrast, saturation and hue, as torchvision's ColorJitter defines them."""

import dataclasses
import math

from mixer.data import enhance
from mixer.data.augmentation import Augmentation
from mixer.data.transforms import register_transform


@register_transform("color_jitter")
@dataclasses.dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Changes brightness, contrast, saturation and hue, in an order that is drawn, too.

    Attributes:
      brightness, contrast, saturation: s of a factor that is uniform in [max(0, 1 - s), 1 + s]; 0
        leaves it as it is.
      hue: at most 0.5; the hue is turned by a part of its circle that is uniform in [-hue, hue].
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():
            most = 0.5 if name == "hue" else math.inf
            if not isinstance(value, int | float) or not 0 <= value <= most or value == math.inf:
                expected = "a number of 0 ... 0.5" if name == "hue" else "a number of 0 or more"
                raise ValueError(f"{name} {value!r} is not {expected}")
        if not any(dataclasses.astuple(self)):
            raise ValueError("all four are 0, which changes nothing")

    def draw(self, size, rng):
        def factor(strength: float) -> float:
            return float(rng.uniform(max(0.0, 1 - strength), 1 + strength))

        found = []
        for operation, strength in (
            (enhance.brightness, self.brightness),
            (enhance.contrast, self.contrast),
            (enhance.color, self.saturation),
        ):
            if strength:
                found.append((operation, {"factor": factor(strength)}))
        if self.hue:
            found.append((enhance.hue, {"turn": float(rng.uniform(-self.hue, self.hue))}))
        return [found[i] for i in rng.permutation(len(found))]

"""AutoAugment's policy for ImageNet (Cubuk et al. 2019, table 9 of the appendix).

Its 25 sub-policies with torchvision's magnitudes and, in nearly all, its pixels. Two things are as
in the authors' code for RandAugment: what comes from outside of the image is grey (torchvision:
black, unless told otherwise), and a shear leaves the centre of the first row, not its upper edge.
"""

import dataclasses

from mixer.data import enhance
from mixer.data.augmentation import Augmentation, Operation
from mixer.data.randaugment import equalize, invert, posterize, rotate, shear_x, solarize
from mixer.data.transforms import register_transform

# Each: two of (operation, probability, level of 0 ... 9).
POLICY: tuple[tuple[tuple[Operation, float, int], ...], ...] = (
    ((posterize, 0.4, 8), (rotate, 0.6, 9)),
    ((solarize, 0.6, 5), (enhance.autocontrast, 0.6, 5)),
    ((equalize, 0.8, 8), (equalize, 0.6, 3)),
    ((posterize, 0.6, 7), (posterize, 0.6, 6)),
    ((equalize, 0.4, 7), (solarize, 0.2, 4)),
    ((equalize, 0.4, 4), (rotate, 0.8, 8)),
    ((solarize, 0.6, 3), (equalize, 0.6, 7)),
    ((posterize, 0.8, 5), (equalize, 1.0, 2)),
    ((rotate, 0.2, 3), (solarize, 0.6, 8)),
    ((equalize, 0.6, 8), (posterize, 0.4, 6)),
    ((rotate, 0.8, 8), (enhance.color, 0.4, 0)),
    ((rotate, 0.4, 9), (equalize, 0.6, 2)),
    ((equalize, 0.0, 7), (equalize, 0.8, 8)),
    ((invert, 0.6, 4), (equalize, 1.0, 8)),
    ((enhance.color, 0.6, 4), (enhance.contrast, 1.0, 8)),
    ((rotate, 0.8, 8), (enhance.color, 1.0, 2)),
    ((enhance.color, 0.8, 8), (solarize, 0.8, 7)),
    ((enhance.sharpness, 0.4, 7), (invert, 0.6, 8)),
    ((shear_x, 0.6, 5), (equalize, 1.0, 9)),
    ((enhance.color, 0.4, 0), (equalize, 0.6, 3)),
    ((equalize, 0.4, 7), (solarize, 0.2, 4)),
    ((solarize, 0.6, 5), (enhance.autocontrast, 0.6, 5)),
    ((invert, 0.6, 4), (equalize, 1.0, 8)),
    ((enhance.color, 0.6, 4), (enhance.contrast, 1.0, 8)),
    ((equalize, 0.8, 8), (equalize, 0.6, 3)),
)


def arguments(operation: Operation, level: int, sign: int) -> dict[str, float]:
    """The arguments of an operation at a level of 0 ... 9; `sign` is 1 or -1, where it has one."""
    if operation is posterize:
        return {"bits": 8 - round(4 * level / 9)}
    if operation is solarize:
        return {"threshold": 255 - 85 * level / 3}
    if operation is rotate:
        return {"degrees": sign * 30 * level / 9}
    if operation is shear_x:
        return {"slope": sign * 0.3 * level / 9}
    if operation in (enhance.color, enhance.contrast, enhance.sharpness):
        return {"factor": (10 + sign * level) / 10}
    return {}  # the level means nothing


@register_transform("autoaugment")
@dataclasses.dataclass(frozen=True)
class AutoAugment(Augmentation):
    """Draws a sub-policy, and does each of its two operations with its probability."""

    def draw(self, size, rng):
        found = []
        for operation, probability, level in POLICY[rng.integers(len(POLICY))]:
            done, sign = rng.random() < probability, 1 if rng.random() < 0.5 else -1
            if done:
                found.append((operation, arguments(operation, level, sign)))
        return found

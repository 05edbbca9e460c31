"""Five crops of an image, one below the other: of its centre and its four corners."""

import dataclasses

import numpy as np

from mixer import errors
from mixer.data.transforms import CentralCrop, Chain


def of(chain: Chain, text: str) -> Chain:
    """The same transforms, with five crops in place of the central one at their end.

    Args:
      text: of the chain, for the message.

    Raises:
      BadInput: there is none at their end.
    """
    *before, last = chain.transforms
    if not isinstance(last, CentralCrop):
        raise errors.BadInput(
            f"views of five crops take the place of a central crop, but the transform {text!r} "
            f"does not end in central_crop: use views=flip"
        )
    return Chain((*before, FiveCrops(last)), chain.channels)


@dataclasses.dataclass(frozen=True)
class FiveCrops:
    """uint8 [H, W, C] -> [5 h, w, C]: centre, top left, top right, bottom left, bottom right.

    Attributes:
      central: the crop of the centre, which has the size of the others.
    """

    central: CentralCrop

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        centre = self.central(image, rng)
        height, width = centre.shape[:2]
        top, bottom = image[:height], image[len(image) - height :]
        corners = (top[:, :width], top[:, -width:], bottom[:, :width], bottom[:, -width:])
        return np.concatenate([centre, *corners])

"""Makes torch_pixels.npz: what torchvision and timm do with given draws.

    python tests/data/torch_pixels.py                      needs torchvision and timm

"jitter": an image after torchvision's ColorJitter, for each of `jitters()`. "policy": after each of
the 25 sub-policies of its AutoAugment, both operations done, with each pair of signs of SIGNS;
"operations" and "probabilities" are its table.
"erasing": of each of ERASINGS runs of timm's RandomErasing on an image of SIZE the numbers that it
drew, rows of (run, low, high, number), and "boxes" where it erased; -1 where it did not.
"""

import random
import sys
from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).with_suffix(".npz")
SIGNS = ((1, 1), (0, 0))  # as torchvision draws them: 0 is minus
ERASINGS, SIZE = 60, (24, 32)


def image() -> np.ndarray:
    """uint8 [12, 14, 3]: slopes of colour with noise."""
    y, x = np.mgrid[:12, :14]
    smooth = np.stack([40 + 11 * x, 20 + 13 * y, 220 - 6 * x - 4 * y], axis=-1)
    noise = np.random.default_rng(0).integers(-20, 21, smooth.shape)
    return (smooth + noise).clip(0, 255).astype(np.uint8)


def jitters() -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """(order, factors): 0 is brightness, 1 contrast, 2 saturation, 3 hue, in both."""
    rng = np.random.default_rng(0)
    return [
        (
            tuple(rng.permutation(4).tolist()),
            (*rng.uniform(0.2, 1.8, 3).tolist(), float(rng.uniform(-0.5, 0.5))),
        )
        for _ in range(12)
    ]


def _jittered(order, factors) -> np.ndarray:
    from PIL import Image
    from torchvision.transforms import ColorJitter

    jitter = ColorJitter(0.8, 0.8, 0.8, 0.5)
    jitter.get_params = lambda *_: (order, *factors)
    return np.asarray(jitter(Image.fromarray(image())))


def _by_policy(number: int, signs: tuple[int, int]) -> np.ndarray:
    from PIL import Image
    from torchvision.transforms import AutoAugment

    augment = AutoAugment(fill=(128, 128, 128))
    augment.get_params = lambda count: (number, (0.0, 0.0), signs)
    return np.asarray(augment(Image.fromarray(image())))


def _erased(run: int) -> tuple[list[tuple[float, ...]], list[int]]:
    """The numbers that timm draws for one image, and the box that it erases."""
    import torch
    from timm.data import random_erasing

    numbers, dice = [], random.Random(run)

    class Recorder:
        def random(self):
            return self._kept(0, 1, dice.random())

        def uniform(self, low, high):
            return self._kept(low, high, dice.uniform(low, high))

        def randint(self, low, high):
            return self._kept(low, high, dice.randint(low, high))

        def _kept(self, low, high, number):
            numbers.append((run, low, high, number))
            return number

    random_erasing.random = Recorder()
    # A wide law, so that some tries do not fit.
    erasing = random_erasing.RandomErasing(0.9, 0.1, 0.9, 0.2, device="cpu")
    pixels = erasing(torch.ones(3, *SIZE))[0].numpy()
    rows, columns = np.nonzero(pixels == 0)
    if not len(rows):
        return numbers, [-1] * 4
    top, left = rows.min(), columns.min()
    return numbers, [top, left, rows.max() + 1 - top, columns.max() + 1 - left]


def _write() -> None:
    from torchvision.transforms import AutoAugment

    table = AutoAugment().policies
    numbers, boxes = zip(*map(_erased, range(ERASINGS)), strict=True)
    np.savez_compressed(
        FIXTURE,
        jitter=np.stack([_jittered(*jitter) for jitter in jitters()]),
        policy=np.stack([[_by_policy(number, s) for s in SIGNS] for number in range(25)]),
        operations=np.array([[operation for operation, _, _ in pair] for pair in table]),
        probabilities=np.array([[probability for _, probability, _ in pair] for pair in table]),
        erasing=np.concatenate(numbers),
        boxes=np.array(boxes, np.int16),
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    _write()

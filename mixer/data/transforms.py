"""Image transforms, named in configs as in `"inception_crop(224)|flip_lr"`.

A transform is a frozen dataclass, called with an image, uint8 [H, W, 3], and a NumPy Generator; it
returns uint8 [H', W', 3]. One without `rgb_only` takes any number of channels. It keeps no state,
so the pixels depend on the generator alone. Sizes are an integer (square) or a pair (height,
width), in pixels; by default, the config's `image_size`. Definitions follow big_vision's
preprocessing, which the paper's authors released.

A transform that draws may also report what: `drawn(image, rng)`, called with the same arguments (a
copy of the generator), returns "window", "flipped" or "operations"; see `mixer.data.drawn`.

Crops also accept an `Encoded` image, or one still to be resized, and decode or resize only the part
that they keep.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from mixer import calls, errors
from mixer.data.decode import Encoded
from mixer.data.grey import grey
from mixer.data.resizing import Window, resize_area, resize_bicubic, resize_bilinear

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Size = int | tuple[int, int]

# The pipeline has its own threads.
cv2.setNumThreads(0)

_TRANSFORMS: dict[str, Callable[..., Transform]] = {}


def register_transform(name: str, factory: Callable[..., Transform] | None = None):
    """Makes `factory(arguments...) -> transform` available to configs as `name(arguments...)`.

    Without `factory` this is a decorator. A parameter named `size` defaults to the image size.
    """
    if factory is None:
        return lambda decorated: register_transform(name, decorated)
    _TRANSFORMS[name] = factory
    return factory


@dataclasses.dataclass(frozen=True)
class Chain:
    """Applies transforms in order; the first may get an image that is not decoded yet."""

    transforms: tuple[Transform, ...]
    channels: int = 3  # of 1, images are RGB until the end

    def __call__(
        self,
        image: np.ndarray | Encoded,
        rng: np.random.Generator,
        apply: Callable = lambda transform, image, rng: transform(image, rng),
    ) -> np.ndarray:
        """Calls `apply(transform, image, rng)` for each; pass your own to observe them."""
        for transform, following in zip(self.transforms, (*self.transforms[1:], None), strict=True):
            if isinstance(image, Encoded) and not isinstance(transform, _Crop):
                image = image.pixels()
            if isinstance(transform, ResizeSmall) and isinstance(following, _Crop):
                image = transform.lazily(image)
            else:
                image = apply(transform, image, rng)
        return grey(image) if self.channels == 1 else image


def parse(text: str, image_size: tuple[int, int], channels: int = 3) -> Chain:
    """Parses a chain such as `"resize_small(256)|central_crop(224)"`.

    Raises:
      BadInput: unknown transform or arguments, one that is not for so many channels, or a chain
        that does not end in images of `image_size`.
    """
    chain = Chain(
        tuple(
            calls.build("transform", call, _TRANSFORMS, size=image_size)
            for call in calls.split(text)
        ),
        channels,
    )
    given = 3 if channels == 1 else channels
    for transform in chain.transforms:
        if given != 3 and getattr(transform, "rgb_only", False):
            raise errors.BadInput(
                f"transform {text!r}: {transform} is for RGB and grey, not for {channels} channels"
            )
    for probe in _ordinary_sizes(image_size):
        try:
            made = chain(np.zeros((*probe, given), np.uint8), np.random.default_rng(0)).shape
        except ValueError as error:
            raise errors.BadInput(
                f"transform {text!r} on an image of {probe[0]} x {probe[1]}: {error}"
            ) from None
        if made != (*image_size, channels):
            raise errors.BadInput(
                f"transform {text!r} makes {made[0]} x {made[1]} of an image of {probe[0]} x "
                f"{probe[1]}, but image_size is {image_size[0]} x {image_size[1]}: end it with a "
                f"crop or resize to that size"
            )
    return chain


def _ordinary_sizes(image_size: tuple[int, int]) -> list[tuple[int, int]]:
    """Typical (height, width) of images to try transforms on, all larger than the image size."""
    short = 2 * max(image_size) + 1
    shapes = ((1, 1), (3, 4), (4, 3), (1, 2), (2, 1), image_size)
    return [(short * h // min(h, w), short * w // min(h, w)) for h, w in shapes]


def _pair(size: Size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    for side in (height, width):
        if not isinstance(side, int) or side < 1:
            raise ValueError(f"size {size!r} is not a positive integer or a pair of them")
    return height, width


def before_crop(side: int) -> int:
    """The size to resize to before a crop of `side` pixels: 8/7 of it, but 448 for 384."""
    return {384: 448}.get(side, round(side * 8 / 7))


@dataclasses.dataclass(frozen=True)
class _Sized:
    size: Size

    def __post_init__(self):
        _pair(self.size)


@register_transform("resize")
class Resize(_Sized):
    """Resizes to exactly `size`, ignoring the aspect ratio; bilinear, without antialiasing."""

    def __call__(self, image, rng):
        return resize_bilinear(image, *_pair(self.size))


@register_transform("resize_small")
@dataclasses.dataclass(frozen=True)
class ResizeSmall:
    """Resizes the shorter side to `side` pixels, keeping the aspect ratio.

    The method is "area", which rounds the longer side to the nearest pixel, or "bicubic", which
    rounds it down, as torchvision does with Pillow images in timm's evaluation.
    """

    side: int
    method: str = "area"

    def __post_init__(self):
        if not isinstance(self.side, int) or self.side < 1:
            raise ValueError(f"side {self.side!r} is not a positive integer")
        if self.method not in ("area", "bicubic"):
            raise ValueError(f"method {self.method!r} is neither 'area' nor 'bicubic'")

    def lazily(self, image: np.ndarray) -> "_Resized":
        """The resized image for a crop, which computes only what it keeps."""
        height, width = image.shape[:2]
        if self.method == "bicubic":
            short = min(height, width)
            size = self.side * height // short, self.side * width // short
            return _Resized(image, *size, resize_bicubic)
        scale = self.side / min(height, width)
        return _Resized(image, round(height * scale), round(width * scale), resize_area)

    def __call__(self, image, rng):
        resized = self.lazily(image)
        return resized.window(0, 0, resized.height, resized.width)


@dataclasses.dataclass(frozen=True)
class _Resized:
    """A resized image of which windows are computed on demand; a crop takes it like `Encoded`."""

    image: np.ndarray
    height: int
    width: int
    resize: Callable[[np.ndarray, int, int, Window], np.ndarray]

    def window(self, *window: int, at_least: tuple[int, int] | None = None) -> np.ndarray:
        return self.resize(self.image, self.height, self.width, window)


def size_of(image: "np.ndarray | Encoded | _Resized") -> tuple[int, int]:
    """(height, width), even of an image that is not decoded or resized yet."""
    return image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)


class _Crop(_Sized):
    """Chooses a window from the image's size and crops to it."""

    def window(self, height: int, width: int, rng: np.random.Generator) -> Window:
        """(top, left, height, width) inside an image of height x width."""
        raise NotImplementedError

    def __call__(
        self, image: np.ndarray | Encoded | _Resized, rng: np.random.Generator
    ) -> np.ndarray:
        window = self.window(*size_of(image), rng)
        if isinstance(image, np.ndarray):
            top, left, height, width = window
            return image[top : top + height, left : left + width]
        return image.window(*window, at_least=_pair(self.size))

    def drawn(self, image, rng: np.random.Generator) -> dict[str, Window]:
        """The window, in the given image's pixels."""
        return {"window": self.window(*size_of(image), rng)}

    def room(self, height: int, width: int) -> tuple[int, int]:
        """How much taller and wider than `size` the image is.

        Raises:
          ValueError: it is smaller than `size`.
        """
        tall, wide = _pair(self.size)
        if height < tall or width < wide:
            raise ValueError(
                f"cannot crop {tall} x {wide} out of {height} x {width}: first resize to a shorter "
                f"side of {max(tall, wide)} or more"
            )
        return height - tall, width - wide


@register_transform("central_crop")
class CentralCrop(_Crop):
    """Crops the central `size` of the image; offsets are rounded down."""

    def window(self, height, width, rng):
        tall, wide = self.room(height, width)
        return tall // 2, wide // 2, *_pair(self.size)


@register_transform("random_crop")
class RandomCrop(_Crop):
    """Crops a window of `size` at a uniformly random place in the image."""

    def window(self, height, width, rng):
        tall, wide = self.room(height, width)
        return int(rng.integers(tall + 1)), int(rng.integers(wide + 1)), *_pair(self.size)


@register_transform("inception_crop")
@dataclasses.dataclass(frozen=True)
class InceptionCrop(_Crop):
    """Crops a random window by TensorFlow's sampling law and resizes it to `size` (bilinear).

    The aspect ratio w/h is uniform in [0.75, 1.33]; then the height is uniform over the integers
    that fit the image and give the window a share of it in `area` (percent); then the place is
    uniform, except that a window that leaves room below or to its right never touches that border.
    If 100 windows miss `area`, the whole image is used.
    """

    area: tuple[float, float] = (5, 100)

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.area[0] <= self.area[1] <= 100:
            raise ValueError(
                f"area {self.area!r} is not (low, high) percent, 0 < low <= high <= 100"
            )

    def window(self, height, width, rng):
        least, most = (share / 100 * height * width for share in self.area)
        for _ in range(100):
            aspect = rng.uniform(0.75, 1.33)
            tallest = min(round((most / aspect) ** 0.5), height)
            while round(tallest * aspect) > width:
                tallest -= 1
            shortest = min(round((least / aspect) ** 0.5), tallest)
            tall = int(rng.integers(shortest, tallest + 1))
            # Correct by one pixel if rounding alone missed `area`.
            tall += (tall * round(tall * aspect) < least) - (tall * round(tall * aspect) > most)
            wide = round(tall * aspect)
            if 0 < tall <= height and 0 < wide <= width and least <= tall * wide <= most:
                top = int(rng.integers(max(height - tall, 1)))
                left = int(rng.integers(max(width - wide, 1)))
                return top, left, tall, wide
        return 0, 0, height, width

    def __call__(self, image, rng):
        return resize_bilinear(super().__call__(image, rng), *_pair(self.size))


@register_transform("flip_lr")
@dataclasses.dataclass(frozen=True)
class FlipLeftRight:
    """Mirrors the image with probability 1/2."""

    def __call__(self, image, rng):
        return cv2.flip(image, 1) if self.drawn(image, rng)["flipped"] else image

    def drawn(self, image, rng: np.random.Generator) -> dict[str, bool]:
        """Whether the image is mirrored."""
        return {"flipped": bool(rng.random() < 0.5)}

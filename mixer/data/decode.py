"""Image files to RGB arrays."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


def decode(data: bytes) -> np.ndarray:
    """Decodes an image file into uint8 [H, W, 3], upright (EXIF orientation applied).

    Grey becomes three equal channels, 16 bits are scaled to 8, CMYK and palettes are converted,
    transparency is dropped.

    Raises:
      ValueError: the bytes are not an image that Pillow can read, or are cut short.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                deep = np.asarray(upright).astype(np.uint32)
                upright = Image.fromarray((deep // 257).clip(0, 255).astype(np.uint8))
            return np.asarray(upright.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"not a readable image: {len(data)} bytes of no known format") from None
    except Exception as error:  # Pillow's readers raise of many kinds on damaged files
        raise ValueError(f"not a readable image ({len(data)} bytes): {error}") from error

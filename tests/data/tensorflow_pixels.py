"""Makes tensorflow_pixels.npz: JPEGs after TensorFlow's fused decode and crop, then resize.

    python tests/data/tensorflow_pixels.py                 needs TensorFlow
    python tests/data/tensorflow_pixels.py 'PATH/*.jpg'    compares with ours, writes nothing

The fixture's images are the two photographs that come with scikit-learn.
"""

import glob
import sys
from pathlib import Path

import numpy as np

FIXTURE = Path(__file__).with_suffix(".npz")


def photographs() -> dict[str, bytes]:
    """File name -> JPEG."""
    from sklearn import datasets

    folder = Path(datasets.__file__).parent / "images"
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.jpg"))}


def damaged(data: bytes) -> bytes:
    """The JPEG with zeros in its middle, after which libjpeg continues."""
    middle = len(data) // 2
    return data[:middle] + bytes(500) + data[middle + 500 :]


def windows(height: int, width: int, count: int, seed: int = 0) -> np.ndarray:
    """int [count, 4]: (top, left, height, width) of inception crops."""
    from mixer.data.transforms import InceptionCrop

    rng = np.random.default_rng(seed)
    crop = InceptionCrop((224, 224))
    return np.array([crop.window(height, width, rng) for _ in range(count)])


def by_tensorflow(data: bytes, window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [*size, 3]."""
    import tensorflow as tf

    image = tf.image.resize(tf.image.decode_and_crop_jpeg(data, window, channels=3), size)
    return tf.cast(tf.clip_by_value(image, 0, 255), tf.uint8).numpy()


def _damaged_by_tensorflow(data: bytes) -> np.ndarray:
    """Every 16th pixel of every 16th row."""
    import tensorflow as tf

    return tf.io.decode_jpeg(damaged(data), channels=3).numpy()[::16, ::16]


def by_us(data: bytes, window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [*size, 3]."""
    from mixer.data.decode import Encoded
    from mixer.data.transforms import resize_bilinear

    return resize_bilinear(Encoded(data).window(*window.tolist()), *size)


def _compare(files: list[str]) -> None:
    from mixer.data.decode import Encoded

    means = []
    for file in files:
        data = Path(file).read_bytes()
        image = Encoded(data)
        for window in windows(image.height, image.width, 5):
            try:
                theirs = by_tensorflow(data, window, (224, 224)).astype(int)
            except Exception as error:
                print(f"{file}: TensorFlow: {str(error).splitlines()[0][:100]}")
                break
            means.append(abs(by_us(data, window, (224, 224)) - theirs).mean())
    print(f"{len(files)} files, {len(means)} crops, differences of 255: mean {np.mean(means):.4f},")
    print(f"99 % below {np.quantile(means, 0.99):.4f}, worst {max(means):.4f}")


def _write() -> None:
    found = {}
    for name, data in photographs().items():
        places = windows(427, 640, 4)
        found[f"{name}_windows"] = places
        found[f"{name}_pixels"] = np.stack([by_tensorflow(data, w, (48, 56)) for w in places])
        found[f"{name}_damaged"] = _damaged_by_tensorflow(data)
    np.savez_compressed(FIXTURE, **found)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    _compare(sorted(glob.glob(sys.argv[1]))) if sys.argv[1:] else _write()

"""The same input pipeline in tf.data, for comparison in the benchmark of ours.

It needs TensorFlow (requirements-benchmark.txt). The operations do what `mixer.data.randaugment`
does.
"""

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf


def batches(
    files: Sequence[bytes],
    image_size: tuple[int, int],
    magnitude: float | None,
    *,
    batch_size: int,
    threads: int,
) -> Iterator[np.ndarray]:
    """Endless batches, uint8 [batch_size, H, W, 3]: inception crop, flip, RandAugment(2, M).

    Args:
      files: JPEG files. They are read from a TFRecord file, tf.data's fastest source.
      magnitude: M; None for no RandAugment.
      threads: number of threads of `map`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "images.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:
            for file in files:
                writer.write(file)

        def example(data: tf.Tensor) -> tf.Tensor:
            image = _flip(_inception_crop(data, image_size))
            for _ in range(0 if magnitude is None else 2):
                image = _random_operation(image, magnitude / 10)
            return tf.ensure_shape(image, (*image_size, 3))

        dataset = tf.data.TFRecordDataset(path).repeat()
        dataset = dataset.map(example, num_parallel_calls=threads, deterministic=True)
        dataset = dataset.batch(batch_size, drop_remainder=True).prefetch(1)
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        yield from dataset.with_options(options).as_numpy_iterator()


def _inception_crop(data: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(data),
        tf.zeros([0, 0, 4]),
        area_range=(0.05, 1.0),
        min_object_covered=0,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.concat([begin[:2], size[:2]], axis=0)
    image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
    return tf.cast(tf.clip_by_value(tf.image.resize(image, image_size), 0, 255), tf.uint8)


def _flip(image: tf.Tensor) -> tf.Tensor:
    return tf.image.random_flip_left_right(image)


def _random_operation(image: tf.Tensor, r: float) -> tf.Tensor:
    drawn = tf.random.uniform([], 0, len(_OPERATIONS), tf.int32)
    branches = [lambda op=op: op(image, r) for op in _OPERATIONS]
    return tf.switch_case(drawn, branches)


def _sign() -> tf.Tensor:
    return tf.where(tf.random.uniform([]) < 0.5, 1.0, -1.0)


def _blend(degenerate: tf.Tensor, image: tf.Tensor, r: float) -> tf.Tensor:
    start, end = tf.cast(degenerate, tf.float32), tf.cast(image, tf.float32)
    mixed = start + (1.8 * r + 0.1) * (end - start)
    return tf.cast(tf.clip_by_value(mixed, 0, 255), tf.uint8)


def _affine(image: tf.Tensor, a, b, c, d, e, f) -> tf.Tensor:
    # A fourth channel of ones marks the pixels that come from inside the image.
    marked = tf.concat([image, tf.ones_like(image[..., :1])], axis=-1)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=marked[None],
        transforms=[[a, b, c, d, e, f, 0.0, 0.0]],
        output_shape=tf.shape(image)[:2],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )[0]
    return tf.where(moved[..., 3:] == 0, tf.constant(128, tf.uint8), moved[..., :3])


def _autocontrast(image: tf.Tensor, r: float) -> tf.Tensor:
    low, high = (tf.cast(f(image, axis=[0, 1]), tf.float32) for f in (tf.reduce_min, tf.reduce_max))
    scale = 255 / tf.maximum(high - low, 1)
    stretched = tf.cast(image, tf.float32) * scale - low * scale
    return tf.where(high > low, tf.cast(tf.clip_by_value(stretched, 0, 255), tf.uint8), image)


def _equalize_channel(channel: tf.Tensor) -> tf.Tensor:
    values = tf.cast(channel, tf.int32)
    histogram = tf.math.bincount(tf.reshape(values, [-1]), minlength=256)
    last = tf.boolean_mask(histogram, histogram > 0)[-1]
    step = (tf.reduce_sum(histogram) - last) // 255
    before = tf.cumsum(histogram, exclusive=True)
    table = tf.clip_by_value((before + step // 2) // tf.maximum(step, 1), 0, 255)
    table = tf.where(step == 0, tf.range(256), table)
    return tf.cast(tf.gather(table, values), tf.uint8)


def _equalize(image: tf.Tensor, r: float) -> tf.Tensor:
    return tf.stack([_equalize_channel(image[..., c]) for c in range(3)], axis=-1)


def _rotate(image: tf.Tensor, r: float) -> tf.Tensor:
    angle = math.radians(30 * r) * _sign()
    cos, sin = tf.cos(angle), tf.sin(angle)
    height, width = (tf.cast(side - 1, tf.float32) for side in (image.shape[0], image.shape[1]))
    c = (width - (cos * width - sin * height)) / 2
    f = (height - (sin * width + cos * height)) / 2
    return _affine(image, cos, -sin, c, sin, cos, f)


def _posterize(image: tf.Tensor, r: float) -> tf.Tensor:
    shift = tf.constant(min(8 - int(4 * r), 7), tf.uint8)
    return tf.bitwise.left_shift(tf.bitwise.right_shift(image, shift), shift)


def _solarize(image: tf.Tensor, r: float) -> tf.Tensor:
    return tf.where(image < tf.constant(int(256 * r) % 256, tf.uint8), image, 255 - image)


def _color(image: tf.Tensor, r: float) -> tf.Tensor:
    return _blend(tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image)), image, r)


def _contrast(image: tf.Tensor, r: float) -> tf.Tensor:
    mean = min(image.shape[0] * image.shape[1] // 256, 255)
    return _blend(tf.fill(tf.shape(image), tf.constant(mean, tf.uint8)), image, r)


def _brightness(image: tf.Tensor, r: float) -> tf.Tensor:
    return _blend(tf.zeros_like(image), image, r)


def _sharpness(image: tf.Tensor, r: float) -> tf.Tensor:
    kernel = np.tile(np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).reshape(3, 3, 1, 1), (1, 1, 3, 1))
    pixels = tf.cast(image, tf.float32)[None]
    smooth = tf.nn.depthwise_conv2d(pixels, kernel.astype(np.float32), [1] * 4, "VALID")[0]
    inside = tf.cast(tf.cast(smooth, tf.int32) // 13, tf.uint8)
    border = [[1, 1], [1, 1], [0, 0]]
    is_inside = tf.pad(tf.ones_like(inside), border)
    return _blend(tf.where(is_inside == 1, tf.pad(inside, border), image), image, r)


def _cutout(image: tf.Tensor, r: float) -> tf.Tensor:
    pad = int(40 * r)
    y, x = (tf.random.uniform([], 0, side, tf.int32) for side in image.shape[:2])
    rows, columns = tf.range(image.shape[0])[:, None], tf.range(image.shape[1])
    cut = (rows >= y - pad) & (rows < y + pad) & (columns >= x - pad) & (columns < x + pad)
    return tf.where(cut[..., None], tf.constant(128, tf.uint8), image)


def _solarize_add(image: tf.Tensor, r: float) -> tf.Tensor:
    added = tf.clip_by_value(tf.cast(image, tf.int32) + int(110 * r), 0, 255)
    return tf.where(image < 128, tf.cast(added, tf.uint8), image)


_OPERATIONS = (
    _autocontrast,
    _equalize,
    lambda image, r: 255 - image,
    _rotate,
    _posterize,
    _solarize,
    _color,
    _contrast,
    _brightness,
    _sharpness,
    lambda image, r: _affine(image, 1.0, 0.3 * r * _sign(), 0.0, 0.0, 1.0, 0.0),
    lambda image, r: _affine(image, 1.0, 0.0, 0.0, 0.3 * r * _sign(), 1.0, 0.0),
    lambda image, r: _affine(image, 1.0, 0.0, 100 * r * _sign(), 0.0, 1.0, 0.0),
    lambda image, r: _affine(image, 1.0, 0.0, 0.0, 0.0, 1.0, 100 * r * _sign()),
    _cutout,
    _solarize_add,
)

"""`config.run="contact_sheet"`: draws a picture of the images that training sees."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from PIL import Image, ImageDraw

from mixer import storage
from mixer.batch import Batch
from mixer.data.sources.label_kinds import shown
from mixer.runs import workdir
from mixer.runs.data import open_training_images
from mixer.runs.keys import at_least
from mixer.runs.model import resolution
from mixer.runs.reader import Reader
from mixer.runs.results import Results
from mixer.runs.update import mixing_of
from mixer.training import meshes, step
from mixer.training.mixing import Mixing, mix

_GAP, _LINE = 4, 12  # pixels: gap between images, height of a line of text below


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes contact_sheet.png: the first `config.sheet` training images, augmented, with classes.

    With mixup or CutMix each image is mixed with the one before it, as in training, but by the draw
    of another step: the sheet shows as many draws as images.

    Raises:
      BadInput: before anything is written.
    """
    (reader, count), mixing = sheet_reader(config), mixing_of(config)
    with reader.batches(0, 1) as batches:
        batch = next(batches)
    images, labels = np.asarray(batch["image"])[:count], np.asarray(batch["label"])[:count]
    workdir.begin(path, config)
    names = [shown(row, reader.source.classes) for row in labels]
    if mixing.on:
        images, told = mixed(images, mixing, config.seed)
        names = [f"{name}\n{text}" for name, text in zip(names, told, strict=True)]
    sheet = draw(enlarged(images), names)
    with storage.write_whole(path / "contact_sheet.png") as file:
        sheet.save(file, "PNG")
    print(f"{count} images of {reader.source.name} {reader.source.split}, as training sees them:")
    if mixing.on:
        print("each mixed with the one before it, by the draw of step 1, 2, 3 ...")
    print(path / "contact_sheet.png")
    workdir.write_results(
        path,
        Results(
            run="contact_sheet",
            protocol=protocol,
            dataset=reader.source.name,
            resolution=resolution(images.shape[1:3]),
            seed=config.seed,
            metrics={},
        ),
    )


def sheet_reader(config: ConfigDict) -> tuple[Reader, int]:
    """A reader whose first batch has all images of the sheet, and `config.sheet`, their number."""
    at_least(1, sheet=config.sheet)
    return open_training_images(config, config.sheet), config.sheet


def of_batch(batch: Batch, classes: Sequence[str], most: int = 36) -> Image.Image:
    """Draws the first images of a batch that this process has, enlarged for their classes below."""
    images, labels = (meshes.local(batch[key])[:most] for key in ("image", "label"))
    return draw(enlarged(images), [shown(row, classes) for row in labels])


def enlarged(images: np.ndarray, least: int = 160) -> np.ndarray:
    """Images [N, H, W, 3] a whole number of times as large, so that they are `least` wide."""
    times = math.ceil(least / images.shape[2])
    return images.repeat(times, axis=1).repeat(times, axis=2)


def mixed(images: np.ndarray, mixing: Mixing, seed: int) -> tuple[np.ndarray, list[str]]:
    """Mixes image i, uint8 [N, H, W, 3], with the one before it as step i does its batch.

    Returns:
      (the mixed images, rounded, what was drawn for each, such as "CutMix 0.75").
    """

    def one(i, pair):
        drawn = step.draw_of(mixing, seed, i, images.shape[1:3])
        return mix(drawn, pair, jnp.eye(2))[0][1], drawn

    pairs = np.stack([np.roll(images, 1, axis=0), images], axis=1).astype(np.float32)
    made, drawn = jax.device_get(jax.jit(jax.vmap(one))(np.arange(len(images)), pairs))
    cut = np.zeros(len(images), bool) if drawn.cut is None else drawn.cut
    told = [
        f"{'CutMix' if c else 'mixup'} {lam:.2f}" for c, lam in zip(cut, drawn.lam, strict=True)
    ]
    return np.rint(made).astype(np.uint8), told


def draw(images: np.ndarray, names: list[str]) -> Image.Image:
    """Draws images, uint8 [N, H, W, C], on a near-square grid, each with its name below.

    Of other images than grey and RGB, the first three channels are drawn.

    Names may have several lines, which are cut to the width of an image.
    """
    count, height, width, channels = images.shape
    drawn = np.zeros((count, height, width, 3), np.uint8)
    drawn[..., : 3 if channels == 1 else channels] = images[..., :3]
    lines = max(name.count("\n") + 1 for name in names)
    columns = math.ceil(math.sqrt(count))
    cell_width, cell_height = width + _GAP, height + _GAP + _LINE * lines
    rows = math.ceil(count / columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (image, name) in enumerate(zip(drawn, names, strict=True)):
        left, top = i % columns * cell_width, i // columns * cell_height
        sheet.paste(Image.fromarray(image), (left, top))
        for line, text in enumerate(name.split("\n")):
            at = (left, top + height + line * _LINE)
            pen.text(at, text[: max(width // 6, 1)], fill="black")
    return sheet

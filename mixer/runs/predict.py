"""`config.run="predict"`: image files to their five likeliest classes."""

import glob
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.data import transforms
from mixer.data.decode import Decoding, Encoded
from mixer.runs import build, workdir

_TOP, _BATCH = 5, 64


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Prints a table and writes predictions.jsonl and results.json.

    Raises:
      BadInput: no such file, or a file that is no image; before anything is written.
    """
    files = _files(config.images)
    trained = build.trained(config)
    card, decoding = trained.card, build.decoding_of(config, None, trained.card)
    lines = []
    for file, top in zip(files, _predict(trained, files, decoding), strict=True):
        lines.append({"file": str(file), "top": [{"class": c, "probability": p} for c, p in top]})
        print(file)
        for name, probability in top:
            print(f"  {probability:7.2%}  {name}", flush=True)
    # Only now: a file that cannot be read leaves nothing behind.
    workdir.begin(path, config)
    (path / "predictions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    workdir.write_results(
        path,
        {
            "run": "predict",
            "protocol": protocol,
            "model": card.model["name"],
            "resolution": build.resolution(card.image_size),
            "step": trained.step,
            "metrics": {},
            "upstream": trained.upstream,
            "precision": trained.precision,
        },
    )


def _predict(
    trained: build.Trained, files: list[Path], decoding: Decoding
) -> Iterator[list[tuple[str, float]]]:
    """For each file its likeliest classes with their probabilities, best first.

    Classes that exclude each other share a probability of 1; where an image may have several, each
    class has a probability of its own.
    """
    card = trained.card
    transform = transforms.parse(card.transform, card.image_size)
    likelihood = jax.nn.sigmoid if card.multi_label else jax.nn.softmax
    apply = jax.jit(
        lambda params, image: likelihood(
            trained.model.apply({"params": params}, batch_lib.to_model_input(image))
        )
    )
    for first in range(0, len(files), _BATCH):
        images = np.zeros((min(_BATCH, len(files)), *card.image_size, 3), np.uint8)
        chosen = files[first : first + _BATCH]
        for i, file in enumerate(chosen):
            try:
                image = Encoded(file.read_bytes(), decoding)
                images[i] = transform(image, np.random.default_rng(0))
            except (ValueError, OSError) as error:
                raise errors.BadInput(f"{file}: {error}") from None
        for probabilities in np.asarray(apply(trained.params, images))[: len(chosen)]:
            best = np.argsort(-probabilities)[:_TOP]
            yield [(card.classes[i], float(probabilities[i])) for i in best]


def _files(names: str) -> list[Path]:
    """The files that a comma-separated list or a glob stands for."""
    if not names:
        raise errors.BadInput("config.run=predict needs --config.images=FILE[,FILE...] or a glob")
    files = []
    for name in (part.strip() for part in names.split(",")):
        path = Path(name).expanduser()
        matches = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
        found = [match for match in matches if match.is_file()]
        if not found:
            raise errors.BadInput(f"config.images: no file {name!r}")
        files += found
    return files

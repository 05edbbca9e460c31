"""`config.run="predict"`: predicts the five most likely classes of image files."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors, storage
from mixer.data import transforms
from mixer.data.decode import Decoding
from mixer.data.sources import image_files
from mixer.preprocessing import pixels
from mixer.runs import keys, workdir
from mixer.runs.data import decoding_of
from mixer.runs.model import resolution
from mixer.runs.results import Results
from mixer.runs.trained import Trained, load_trained

_TOP, _BATCH = 5, 64


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Prints a table and writes predictions.jsonl, predictions.csv and results.json.

    A file that cannot be read is reported, and has an `error` instead of classes.

    Raises:
      BadInput: no such file, or none that can be read; before anything is written.
    """
    if not config.images:
        raise errors.BadInput(
            "config.run=predict needs --config.images=: files, folders or globs, with commas "
            "between them"
        )
    left_out = Counter()
    files = image_files.expand(config.images, left_out)
    passed = f"; left out: {image_files.counted(left_out)}" if left_out else ""
    print(f"{len(files):,} files{passed}", flush=True)
    trained = load_trained(config)
    card, decoding = trained.card, decoding_of(config, None, trained.card)
    keys.used(config)  # refuses keys that would be ignored, before any work
    lines = []
    for file, found in zip(files, _predict(trained, files, decoding), strict=True):
        print(file)
        if isinstance(found, str):
            lines.append({"file": file, "error": found})
            print(f"  {found}", flush=True)
            continue
        lines.append({"file": file, "top": [{"class": c, "probability": p} for c, p in found]})
        for name, probability in found:
            print(f"  {probability:7.2%}  {name}", flush=True)
    bad = [line for line in lines if "error" in line]
    if len(bad) == len(lines):
        raise errors.BadInput(f"{bad[0]['file']}: {bad[0]['error']}")
    if bad:
        names = errors.shown([line["file"] for line in bad])
        print(f"{len(bad):,} of {len(lines):,} files cannot be read: {names}", flush=True)
    # Only now, so that a failed run leaves nothing behind.
    workdir.begin(path, config)
    for name, content in (
        ("predictions.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode()),
        ("predictions.csv", _table(lines, min(_TOP, len(card.classes)))),
    ):
        with storage.write_whole(path / name) as file:
            file.write(content)
    workdir.write_results(
        path,
        Results(
            run="predict",
            protocol=protocol,
            model=card.model["name"],
            resolution=resolution(card.image_size),
            step=trained.step,
            metrics={},
            upstream=trained.upstream,
            precision=trained.precision,
            skipped_examples=len(bad),
        ),
    )


def _predict(
    trained: Trained, files: list[str], decoding: Decoding
) -> Iterator[list[tuple[str, float]] | str]:
    """For each file its most likely (class, probability) pairs, best first, or an error message.

    Probabilities are a softmax; for a model of multi-label images, a sigmoid for each class.
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
        chosen, wrong = files[first : first + _BATCH], {}
        for i, file in enumerate(chosen):
            try:
                images[i] = pixels(Path(file).read_bytes(), transform, decoding)
            except (ValueError, OSError) as error:
                wrong[i] = str(error)
        for i, probabilities in enumerate(np.asarray(apply(trained.params, images))[: len(chosen)]):
            best = np.argsort(-probabilities)[:_TOP]
            yield wrong.get(i) or [(card.classes[k], float(probabilities[k])) for k in best]


def _table(lines: list[dict], classes: int) -> bytes:
    """The content of predictions.csv: one file per line, with up to `classes` classes."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    numbers = ("", *(f"_{i}" for i in range(2, classes + 1)))
    columns = [f"{column}{number}" for number in numbers for column in ("class", "probability")]
    table.writerow(["file", *columns, "error"])
    for line in lines:
        found = [value for each in line.get("top", ()) for value in each.values()]
        found += [""] * (2 * classes - len(found))
        table.writerow([line["file"], *found, line.get("error", "")])
    # File names need not be UTF-8.
    return text.getvalue().encode(errors="backslashreplace")

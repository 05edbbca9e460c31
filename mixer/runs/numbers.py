"""Writes what a regression answered to the images of a split: tables, and a diagram."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from mixer import storage
from mixer.checkpoint.model_card import ModelCard
from mixer.evaluation.regression import Numbers, Sums
from mixer.paper import diagrams, style
from mixer.runs import workdir
from mixer.runs.reader import Reader

_MOST_DRAWN = 9  # outputs


def write(folder: epath.Path, card: ModelCard, reader: Reader, numbers: Numbers) -> None:
    """Writes predictions.csv, per_output.csv and predicted.png; see `answers.write`.

    Prints how many outputs are left out of the diagram.
    """
    names = card.classes
    workdir.write_csv(folder / "predictions.csv", rows(reader, names, *numbers, "predicted"))
    mask = np.ones(len(numbers.index), bool)
    found = Sums.of(numbers.predicted, numbers.target, mask).compute()
    workdir.write_csv(
        folder / "per_output.csv",
        [
            {"output": name} | {metric: f"{values[k]:.9g}" for metric, values in found.items()}
            for k, name in enumerate(names)
        ],
    )
    if len(names) > _MOST_DRAWN:
        print(f"{folder.name}: predicted.png has the first {_MOST_DRAWN} of {len(names):,} outputs")
    drawn = slice(_MOST_DRAWN)
    figure = diagrams.predicted(
        numbers.target[:, drawn], numbers.predicted[:, drawn], names[drawn], found["r2"][drawn]
    )
    with storage.write_whole(folder / "predicted.png") as file:
        style.save(figure, file, "png")
    print(folder, flush=True)


def rows(
    reader: Reader,
    names: Sequence[str],
    index: np.ndarray,
    target: np.ndarray,
    predicted: np.ndarray,
    what: str,
) -> list[dict[str, Any]]:
    """A row for each image: its place, its file if there are files, NAME_true and NAME_`what`."""
    files = getattr(reader.source, "files", None)
    return [
        {"index": int(i)}
        | ({"file": files[i][0]} if files else {})
        | {f"{name}_true": f"{x:.9g}" for name, x in zip(names, true, strict=True)}
        | {f"{name}_{what}": f"{x:.9g}" for name, x in zip(names, own, strict=True)}
        for i, true, own in zip(index, target, predicted, strict=True)
    ]

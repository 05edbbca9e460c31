"""Writes what a regression answered to the images of a split: tables, and a diagram."""

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
    names, files = card.classes, getattr(reader.source, "files", None)
    rows = [
        {"index": int(index)}
        | ({"file": files[index][0]} if files else {})
        | {f"{name}_true": f"{x:.9g}" for name, x in zip(names, target, strict=True)}
        | {f"{name}_predicted": f"{x:.9g}" for name, x in zip(names, predicted, strict=True)}
        for index, target, predicted in zip(*numbers, strict=True)
    ]
    workdir.write_csv(folder / "predictions.csv", rows)
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

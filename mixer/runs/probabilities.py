"""Writes what a model of several labels per image answered to the images of a split: two tables."""

import numpy as np
from etils import epath

from mixer.checkpoint.model_card import ModelCard
from mixer.evaluation.multilabel import Probabilities, ranking
from mixer.runs import numbers, workdir
from mixer.runs.reader import Reader


def write(folder: epath.Path, card: ModelCard, reader: Reader, answers: Probabilities) -> None:
    """Writes predictions.csv and per_class.csv; see `answers.write`.

    An image has a class if the target is at least 1/2. Prints the mean average precision.
    """
    names = card.classes
    rows = numbers.rows(reader, names, *answers, "probability")
    workdir.write_csv(folder / "predictions.csv", rows)
    positive = answers.target >= 0.5
    found = [ranking(positive[:, k], answers.predicted[:, k]) for k in range(len(names))]
    workdir.write_csv(
        folder / "per_class.csv",
        [
            {
                "class": name,
                "images": int(positive[:, k].sum()),
                "average_precision": _number(found[k][0]),
                "roc_auc": _number(found[k][1]),
            }
            for k, name in enumerate(names)
        ],
    )
    known = [precision for precision, _ in found if not np.isnan(precision)]
    if known:
        print(
            f"{folder.name}: mean average precision {np.mean(known):.4f}, of the {len(known):,} "
            f"classes with images",
            flush=True,
        )
    print(folder, flush=True)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"

"""Writes what a classifier answered to the images of a split: tables, diagrams, worst mistakes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from PIL import Image

from mixer import storage
from mixer.checkpoint.model_card import ModelCard
from mixer.evaluation.answers import Answers, confusion, reliability
from mixer.evaluation.multilabel import Probabilities
from mixer.evaluation.regression import Numbers
from mixer.hosts import peers
from mixer.paper import diagrams, style
from mixer.preprocessing import pixels
from mixer.runs import numbers, probabilities, workdir
from mixer.runs.contact_sheet import draw, enlarged
from mixer.runs.reader import Reader
from mixer.weights import class_names

_WORST = 36  # mistakes on the sheet
_PAIRS = 3  # most confused pairs that are named
_MOST_DRAWN = 1000  # classes in the picture of the confusion matrix


def write(
    folder: epath.Path, card: ModelCard, reader: Reader, answers: Answers | Numbers | Probabilities
) -> Image.Image | None:
    """Writes predictions.csv, per_class.csv, confusion.csv and .png, reliability.png, mistakes.png.

    Of a regression it writes what `numbers.write` does, of several labels per image what
    `probabilities.write` does. Only process 0 writes. Prints the most confused pairs, and what is
    left out. The metrics are complete without these files, so an error of any kind is only a
    warning.

    Returns:
      The picture in mistakes.png; None if there is none.
    """
    if peers.index():
        return None
    try:
        workdir.check_there(folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(answers, Numbers):
            numbers.write(folder, card, reader, answers)
            return None
        if isinstance(answers, Probabilities):
            probabilities.write(folder, card, reader, answers)
            return None
        return _write(folder, card, reader, answers)
    except Exception as error:
        print(f"warning: {folder} lacks tables or pictures: {error}", flush=True)
        return None


def _write(
    folder: epath.Path, card: ModelCard, reader: Reader, answers: Answers
) -> Image.Image | None:
    names = class_names.readable(card.classes, card.dataset)
    files = getattr(reader.source, "files", None)
    workdir.write_csv(folder / "predictions.csv", list(_predictions(answers, card, names, files)))
    pairs, times = confusion(answers)
    wrong = int((pairs[:, 0] != pairs[:, 1]).sum())
    workdir.write_csv(folder / "per_class.csv", _per_class(answers, card, names, pairs, times))
    workdir.write_csv(
        folder / "confusion.csv",
        [
            _named("label", a, card, names)
            | _named("predicted", b, card, names)
            | {"images": int(count)}
            for (a, b), count in zip(pairs, times, strict=True)
        ],
    )
    confused = [
        f"{names[a]} as {names[b]} ({count:,})"
        for (a, b), count in zip(pairs[: min(wrong, _PAIRS)], times, strict=False)
    ]
    print(f"{folder.name}: most confused: {'; '.join(confused) or 'none'}", flush=True)
    figures = {"reliability": diagrams.reliability(*reliability(answers))}
    drawn = np.unique(pairs)
    if len(drawn) <= _MOST_DRAWN:
        places = np.searchsorted(drawn, pairs)
        figures["confusion"] = diagrams.confusion(
            places, times, [names[i] for i in drawn], "\n".join(["most confused:", *confused])
        )
    else:
        print(f"{folder.name}: no confusion.png: {len(drawn):,} classes, more than {_MOST_DRAWN:,}")
    for name, figure in figures.items():
        with storage.write_whole(folder / f"{name}.png") as file:
            style.save(figure, file, "png")
    sheet = _mistakes(answers, reader, names, card.image_size[0]) if wrong else None
    if sheet:
        with storage.write_whole(folder / "mistakes.png") as file:
            sheet.save(file, "PNG")
    print(folder, flush=True)
    return sheet


def _named(column: str, label: int, card: ModelCard, names: Sequence[str]) -> dict[str, str]:
    """The class, and its name if the classes have names of their own."""
    found = {column: card.classes[label]}
    return found if names == card.classes else found | {f"{column}_name": names[label]}


def _predictions(
    answers: Answers, card: ModelCard, names: Sequence[str], files: Sequence | None
) -> Iterator[dict[str, Any]]:
    for index, label, predicted, probability, of_label in zip(*answers, strict=True):
        yield (
            {"index": int(index)}
            | ({"file": files[index][0]} if files else {})
            | _named("label", label, card, names)
            | _named("predicted", predicted[0], card, names)
            | {"probability": f"{probability[0]:.6f}", "probability_of_label": f"{of_label:.6f}"}
        )


def _per_class(
    answers: Answers, card: ModelCard, names: Sequence[str], pairs: np.ndarray, times: np.ndarray
) -> list[dict[str, Any]]:
    """A row for each class of the model; accuracies of a class without images are empty."""
    number = len(card.classes)
    count, first, among = (
        np.bincount(answers.label, hits, number)
        for hits in (
            None,
            answers.right,
            (answers.predicted == answers.label[:, None]).any(axis=1),
        )
    )
    taken_for: dict[int, tuple[str, int]] = {}  # the most frequent mistakes come first
    for (label, predicted), often in zip(pairs, times, strict=True):
        if label != predicted:
            taken_for.setdefault(int(label), (names[predicted], int(often)))
    rows = []
    for label in range(number):
        top1, top5 = (
            f"{hits[label] / count[label]:.6f}" if count[label] else "" for hits in (first, among)
        )
        other, often = taken_for.get(label, ("", 0))
        row = _named("class", label, card, names) | {"images": int(count[label])}
        rows.append(row | {"top1": top1, "top5": top5, "most_taken_for": other, "times": often})
    return rows


def _mistakes(answers: Answers, reader: Reader, names: Sequence[str], height: int) -> Image.Image:
    """The mistakes with the least probability for the right class, as the model saw the images.

    Of several crops of an image it shows the first, which has this height.
    """
    wrong = np.flatnonzero(~answers.right)
    worst = wrong[np.argsort(answers.of_label[wrong], kind="stable")][:_WORST]
    source, rows = reader.source, reader.rows
    if stage := getattr(source, "stage", None):  # other processes may have read these
        stage([range(i, i + 1) for i in answers.index[worst].tolist()])
    try:
        seen = np.stack(
            [
                pixels(source[i]["image"], rows.transform, rows.decoding)[:height]
                for i in answers.index[worst].tolist()
            ]
        )
    finally:
        getattr(source, "close", lambda: None)()
    captions = [
        f"{names[label]}\n{probability:.0%}: {names[predicted]}"
        for label, predicted, probability in zip(
            answers.label[worst],
            answers.predicted[worst, 0],
            answers.probability[worst, 0],
            strict=True,
        )
    ]
    return draw(enlarged(seen), captions)

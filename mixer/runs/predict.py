"""`config.run="predict"`: says what image files show, or writes their features (embeddings)."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import jax
import numpy as np
import pyarrow as pa
from etils import epath
from ml_collections import ConfigDict
from pyarrow import parquet

from mixer import errors, storage
from mixer.data.sources import image_files
from mixer.data.sources.files import FilesSource
from mixer.evaluation import views as views_lib
from mixer.evaluation.views import Views
from mixer.hosts import exchange, peers
from mixer.runs import keys, workdir
from mixer.runs.data import decoding_of
from mixer.runs.model import apply_of, compiled, resolution
from mixer.runs.reader import Reader, fingerprints, open_reader
from mixer.runs.results import Results
from mixer.runs.trained import Trained, load_trained
from mixer.weights import class_names

_BATCH = 64  # images a device
_EMBEDDINGS = ("npz", "parquet")
_ELSEWHERE = "another host cannot read it"


def run(config: ConfigDict, output: str | None, protocol: str) -> None:
    """Prints a table; with a workdir, writes predictions.jsonl, predictions.csv and results.json.

    A model trained with the loss mse gives numbers instead of classes. A file that cannot be read
    is reported, and has an `error` instead. With `config.predict.embeddings` the features are
    written, and such a file is left out.

    Raises:
      BadInput: no such file, or none that can be read; before anything is written.
    """
    path = workdir.unfinished(output, config) if output else None
    if output and path is None:  # complete
        return
    kind, top, views = asked(config, path)
    if not config.images:
        raise errors.BadInput(
            "config.run=predict needs --config.images=: files, folders, globs or lists of these "
            "(FILE.txt), with commas between them"
        )
    left_out = Counter()
    files = image_files.expand(config.images, left_out)
    passed = f"; left out: {image_files.counted(left_out)}" if left_out else ""
    print(f"{image_files.number(files)}{passed}", flush=True)
    trained = load_trained(config)
    if trained.card.regression and "predict.top" in keys.given(config):
        raise errors.BadInput(
            f"config.predict.top={top} is for classes, but {config.init_from} predicts numbers "
            f"({errors.shown(trained.card.classes)}): leave it out"
        )
    if trained.card.channels not in (1, 3):
        raise errors.BadInput(
            f"config.images: image files have 1 or 3 channels, but those of {config.init_from} "
            f"have {trained.card.channels}: from Python, mixer.preprocess takes arrays"
        )
    reader = _reader(config, trained, files, views)
    exchange.same_work(0, fingerprints({"images": [reader]}))
    keys.used(config)  # refuses keys that would be ignored, before any work
    if path is not None:
        workdir.check_writable(path)
    if kind:
        wrong, contents = _embedded(trained, reader, kind)
    elif trained.card.regression:
        wrong, contents = _numbers(trained, reader, views)
    else:
        top = min(top, len(trained.card.classes))
        wrong, contents = _classified(trained, reader, top, views)
    if len(wrong) == len(files):
        raise errors.BadInput("{}: {}".format(*next(iter(wrong.items()))))
    if wrong:
        names = errors.shown(list(wrong))
        print(f"{len(wrong):,} of {len(files):,} files cannot be read: {names}", flush=True)
    if path is not None:  # only now, so that a failed run leaves nothing behind
        _write(config, path, protocol, trained, contents, len(wrong))


def asked(config: ConfigDict, path: epath.Path | None) -> tuple[str, int, Views]:
    """`config.predict`, checked: the kind of file for embeddings, or "", classes and views.

    Args:
      path: the workdir, if there is one.
    """
    kind = config.predict.embeddings
    if kind and kind not in _EMBEDDINGS:
        raise errors.unknown("config.predict.embeddings", kind, _EMBEDDINGS)
    if kind and path is None:
        raise errors.BadInput(
            f"--config.predict.embeddings={kind} needs --workdir=: the folder for embeddings.{kind}"
        )
    if kind:
        return kind, 0, Views()
    keys.at_least(1, **{"predict.top": config.predict.top})
    return "", config.predict.top, views_lib.parse(config.predict.views, "predict.views")


def _classified(
    trained: Trained, reader: Reader, top: int, views: Views
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Prints each file's most likely classes; returns {file: error}, and the files to write.

    Probabilities are a softmax; for a model of multi-label images, a sigmoid for each class. Those
    of several views are averaged.
    """
    card = trained.card
    names = class_names.readable(card.classes, card.dataset)
    likelihood = jax.nn.sigmoid if card.multi_label else jax.nn.softmax

    def tell(found: np.ndarray) -> dict[str, list]:
        guesses = []
        for k in np.argsort(-found)[:top]:
            named = {"name": names[k]} if names != card.classes else {}
            guesses.append({"class": card.classes[k], **named, "probability": float(found[k])})
            print(f"  {found[k]:7.2%}  {names[k]}", flush=True)
        return {"top": guesses}

    wrong, lines = _lines(reader, _outputs(trained, reader, likelihood, views), tell)
    fields = next((list(line["top"][0]) for line in lines if "top" in line), [])
    numbers = ("", *(f"_{i}" for i in range(2, top + 1)))
    columns = [f"{field}{number}" for number in numbers for field in fields]
    rows = [[value for each in line.get("top", ()) for value in each.values()] for line in lines]
    return wrong, _contents(lines, columns, rows)


def _numbers(
    trained: Trained, reader: Reader, views: Views
) -> tuple[dict[str, str], dict[str, bytes]]:
    """Prints each file's numbers; returns as `_classified`."""
    names = trained.card.classes

    def tell(found: np.ndarray) -> dict[str, dict]:
        for name, x in zip(names, found, strict=True):
            print(f"  {x:12.6g}  {name}", flush=True)
        return {"outputs": dict(zip(names, found.tolist(), strict=True))}

    outputs = _outputs(trained, reader, lambda found: found, views)
    wrong, lines = _lines(reader, outputs, tell)
    rows = [list(line.get("outputs", {}).values()) for line in lines]
    return wrong, _contents(lines, names, rows)


def _lines(
    reader: Reader, outputs: Iterable[np.ndarray | str], tell: Callable[[np.ndarray], dict]
) -> tuple[dict[str, str], list[dict]]:
    """Prints each file, and `tell` what it shows; returns {file: error}, and the lines."""
    wrong, lines = {}, []
    for file, found in zip(reader.source.paths, outputs, strict=True):
        if isinstance(found, str):
            wrong[file] = found
            lines.append(_unread(file, found))
        else:
            print(file)
            lines.append({"file": file} | tell(found))
    return wrong, lines


def _unread(file: str, error: str) -> dict[str, str]:
    """Prints that a file cannot be read; returns its line of predictions.jsonl."""
    print(f"{file}\n  {error}", flush=True)
    return {"file": file, "error": error}


def _contents(lines: list[dict], columns: Sequence[str], rows: Sequence[list]) -> dict[str, bytes]:
    """predictions.jsonl, and the same in predictions.csv: one file per line, with these columns."""
    return {
        "predictions.jsonl": "".join(json.dumps(line) + "\n" for line in lines).encode(),
        "predictions.csv": _table(lines, columns, rows),
    }


def _table(lines: list[dict], columns: Sequence[str], rows: Sequence[list]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["file", *columns, "error"])
    for line, found in zip(lines, rows, strict=True):
        missing = [""] * (len(columns) - len(found))
        table.writerow([line["file"], *found, *missing, line.get("error", "")])
    # File names need not be UTF-8.
    return text.getvalue().encode(errors="backslashreplace")


def _embedded(
    trained: Trained, reader: Reader, kind: str
) -> tuple[dict[str, str], dict[str, bytes]]:
    """The features of the files that can be read; returns as `_classified`."""
    wrong, read, rows = {}, [], []
    for file, found in zip(reader.source.paths, _outputs(trained, reader), strict=True):
        if isinstance(found, str):
            wrong[file] = found
            _unread(file, found)
        else:
            # Neither format holds bytes that are not UTF-8 as text.
            read.append(file.encode(errors="surrogateescape").decode(errors="backslashreplace"))
            rows.append(found)
    if not rows:
        return wrong, {}
    features = np.stack(rows)
    made = f"{len(read):,} embedding{'s' * (len(read) != 1)} of {features.shape[1]:,} numbers"
    print(f"{made}: embeddings.{kind}")
    content = io.BytesIO()
    if kind == "npz":
        np.savez(content, files=np.array(read), embeddings=features)
    else:
        flat = pa.array(features.ravel())
        column = pa.FixedSizeListArray.from_arrays(flat, features.shape[1])
        parquet.write_table(pa.table({"file": read, "embedding": column}), content)
    return wrong, {f"embeddings.{kind}": content.getvalue()}


def _reader(config: ConfigDict, trained: Trained, files: list[str], views: Views) -> Reader:
    """Reads the files in order, on all devices; an unreadable one is masked."""
    card, mesh = trained.card, trained.mesh
    keys.at_least(0, **{"runtime.threads": config.runtime.threads})
    each = -(-min(len(files), _BATCH * mesh.size) // mesh.size)
    reader = open_reader(
        FilesSource(files, classes=card.classes),
        card.transform,
        card.image_size,
        batch_size=each * mesh.size,
        seed=0,  # nothing is random
        order=None,
        mesh=mesh,
        threads=config.runtime.threads,
        workers=0,
        channels=card.channels,
        decoding=decoding_of(config, None, card),
        skip_bad=True,
    )
    return reader.in_five_crops(card.transform) if views.crops > 1 else reader


def _outputs(
    trained: Trained,
    reader: Reader,
    of_logits: Callable | None = None,
    views: Views = Views(),  # noqa: B008 it is frozen
) -> Iterator[np.ndarray | str]:
    """For each file its features float32 [C], or `of_logits` of its logits; or an error message."""
    model = trained.model if of_logits else trained.model.clone(num_classes=0)
    outputs = views_lib.averaged(apply_of(model, trained.mesh), views, trained.card.outputs)

    def answer(params, batch):
        found = outputs(params, batch["image"])
        return batch["mask"], (of_logits(found) if of_logits else found).astype(np.float32)

    apply, index = compiled(answer, trained.mesh), 0
    with reader.batches() as batches:
        for batch in batches:
            for read, output in zip(*jax.device_get(apply(trained.params, batch)), strict=True):
                if index == len(reader.source):  # the rest of the last batch is padding
                    return
                yield output if read else reader.rows.unusable(index) or _ELSEWHERE
                index += 1


def _write(
    config: ConfigDict,
    path: epath.Path,
    protocol: str,
    trained: Trained,
    contents: dict[str, bytes],
    skipped: int,
) -> None:
    workdir.begin(path, config)
    for name, content in contents.items() if peers.index() == 0 else ():
        with storage.write_whole(path / name) as file:
            file.write(content)
    workdir.write_results(
        path,
        Results(
            run="predict",
            protocol=protocol,
            model=trained.card.model["name"],
            resolution=resolution(trained.card.image_size),
            step=trained.step,
            metrics={},
            upstream=trained.upstream,
            precision=trained.precision,
            skipped_examples=skipped,
        ),
    )

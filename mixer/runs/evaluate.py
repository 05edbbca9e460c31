"""`config.run="evaluate"`: measures trained parameters by the config's evaluators."""

import functools
import time
from collections.abc import Sequence

import jax
from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.data import turbojpeg
from mixer.hosts import exchange
from mixer.runs import answers, contact_sheet, workdir
from mixer.runs.evaluations import Evaluation, build_evaluations, unreadable
from mixer.runs.model import resolution
from mixer.runs.reader import print_sources
from mixer.runs.results import Results
from mixer.runs.trained import Trained, load_trained
from mixer.training import writers
from mixer.training.writers import Session, Writers


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Evaluates `config.init_from` and writes results.json; see also `answers.write`.

    Raises:
      BadInput: before anything is written.
    """
    trained = load_trained(config)
    evaluations = evaluations_of(config, trained)
    card = trained.card
    print(f"{card.model['name']} of {config.init_from}: {card.transform}")
    measure(config, path, protocol, trained, evaluations)


def evaluations_of(config: ConfigDict, trained: Trained) -> list[Evaluation]:
    """Builds the config's evaluators for trained parameters.

    Raises:
      BadInput: there are none, or a dataset has other classes than the model.
    """
    found = build_evaluations(config, trained.model, trained.mesh, trained.card, None)
    if not found:
        raise errors.BadInput("config.evaluators has nothing to evaluate on")
    return found


def measure(
    config: ConfigDict,
    path: epath.Path,
    protocol: str,
    trained: Trained,
    evaluations: Sequence[Evaluation],
) -> None:
    """Runs the evaluations, prints the metrics, writes results.json and the answers.

    Args:
      path: the workdir; nothing is written there yet.
    """
    print_sources({evaluation.name: evaluation.readers for evaluation in evaluations})
    names = writers.parse(config.writers)
    exchange.from_first(lambda: writers.check(names))
    if trouble := exchange.first_error(unreadable(evaluations)):
        raise errors.BadInput(trouble)
    workdir.begin(path, config)
    session = Session(path, workdir.recorded(path), trained.step or 0)
    with Writers(names, session) as shown:
        _measure(config, path, protocol, trained, evaluations, shown)


def _measure(
    config: ConfigDict,
    path: epath.Path,
    protocol: str,
    trained: Trained,
    evaluations: Sequence[Evaluation],
    shown: Writers,
) -> None:
    step = trained.step or 0
    for evaluation in evaluations:
        reader = evaluation.readers[0]
        with reader.batches(0, 1) as batches:  # compiles, before the clock starts
            batch = next(batches)
            update = getattr(evaluation, "answer", None) or evaluation.update
            jax.block_until_ready(update(trained.params, batch))
        draw = functools.partial(contact_sheet.of_batch, batch, reader.source.classes)
        shown.image(step, f"{evaluation.name}/first_batch", draw)
    began, images, metrics, answered = time.perf_counter(), 0, {}, []
    for evaluation in evaluations:
        if getattr(evaluation, "answer", None):
            measured, found = evaluation.measure_and_answer(trained.params)
            answered.append((evaluation, found))
        else:
            measured = evaluation.measure(trained.params)
        count = sum(len(reader.source) for reader in evaluation.readers)
        images += count
        metrics |= {f"{evaluation.name}/{name}": value for name, value in measured.items()}
        values = "  ".join(f"{name} {value:.4f}" for name, value in measured.items())
        print(f"{evaluation.name} ({count:,} images): {values}", flush=True)
    if all(name.endswith("/skipped") for name in metrics):
        raise errors.Failure("nothing could be measured")
    seconds = time.perf_counter() - began
    readers = [reader for evaluation in evaluations for reader in evaluation.readers]
    workdir.write_results(
        path,
        Results(
            run=config.run,
            protocol=protocol,
            model=trained.card.model["name"],
            dataset=",".join(dict.fromkeys(reader.source.name for reader in readers)),
            resolution=resolution(trained.card.image_size),
            seed=config.seed,
            step=trained.step,
            batch_size=readers[0].batch_size,
            seconds=seconds,
            params=sum(x.size for x in jax.tree.leaves(trained.params)),
            metrics=metrics,
            upstream=trained.upstream,
            images_per_second_per_device=images / seconds / trained.mesh.size,
            device_days=seconds * trained.mesh.size / 86400,
            mesh=dict(trained.mesh.shape),
            precision=trained.precision,
            decoder=turbojpeg.decoder(),
            skipped_examples=sum(n for name, n in metrics.items() if name.endswith("/skipped")),
        ),
    )
    shown.scalars(step, metrics)
    for evaluation, found in answered:
        sheet = answers.write(path / evaluation.name, trained.card, evaluation.reader, found)
        if sheet:
            shown.image(step, f"{evaluation.name}/mistakes", lambda sheet=sheet: sheet)

"""A linear probe (`config.probe.l2`): trains only the head, on the features of a frozen trunk.

The features of every training image are computed once and held in memory. The head is the optimum
of a logistic regression on them (mixer/evaluation/probe.py), so nothing is drawn, and a probe that
was stopped begins again. Its one checkpoint is the whole model with that head.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.store import Store
from mixer.data import drawn, sources, transforms, turbojpeg
from mixer.data.sources import label_kinds
from mixer.evaluation import features, probe
from mixer.hosts import exchange, holding
from mixer.runs import workdir
from mixer.runs.data import decoding_of, skip_bad
from mixer.runs.evaluations import Evaluation, build_evaluations, unreadable
from mixer.runs.features_evaluation import forward_of
from mixer.runs.keys import at_least, given, within
from mixer.runs.model import compiled, mesh_of, precision, resolution, rules_of
from mixer.runs.reader import Reader, fingerprints, open_reader, print_sources
from mixer.runs.results import Results
from mixer.runs.trainee import Trainee, build_trainee
from mixer.runs.weights import RANDOM
from mixer.signals import StopSignal
from mixer.training import meshes, placement, step, writers
from mixer.training.metrics_log import MetricsLog
from mixer.weights import fitting

_STEP = 1  # of its one line in metrics.jsonl and its one checkpoint


@dataclasses.dataclass(frozen=True)
class Probe:
    """What is to be done.

    Attributes:
      l2: the values to choose from.
      reader: of each training image once.
      params: () -> the parameters, whose head is to be replaced, and their origin.
    """

    trainee: Trainee
    l2: tuple[float, ...]
    reader: Reader
    evaluations: list[Evaluation]
    writers: tuple[str, ...]
    params: Callable[[], tuple[Any, dict | None]]

    @property
    def readers(self) -> dict[str, list[Reader]]:
        """All readers, by "training" or the evaluator's name."""
        return {"training": [self.reader]} | {e.name: e.readers for e in self.evaluations}


def build_probe(config: ConfigDict) -> Probe:
    """Builds a probe; reads only the keys that it depends on.

    Raises:
      BadInput: the config asks for something that cannot be done.
    """
    l2 = config.probe.l2
    if not all(isinstance(value, int | float) for value in l2) or len(set(l2)) < len(l2):
        raise errors.BadInput(f"config.probe.l2={l2}: expected one or more distinct numbers")
    for value in l2:
        within(0, math.inf, **{"probe.l2": value})
    mesh = mesh_of(config)
    meshes.check_batch_size(config.batch_size, mesh, "batch_size")
    trainee = build_trainee(config, "reset", lambda shapes: mesh)
    _check(config, trainee)
    at_least(0, **{"runtime.threads": config.runtime.threads})
    reader = open_reader(
        trainee.source,
        config.input.transform,
        trainee.card.image_size,
        batch_size=config.batch_size,
        seed=0,  # nothing is drawn
        order=None,
        mesh=mesh,
        threads=config.runtime.threads,
        workers=0,
        channels=trainee.card.channels,
        decoding=decoding_of(config, trainee.source),
        skip_bad=skip_bad(config),
    )

    def once(_: str, key: str) -> int:
        if key in given(config):
            raise errors.BadInput(
                f"--config.{key} would not be used: a probe measures once. Leave it out"
            )
        return 0

    evaluations = build_evaluations(
        config, trainee.model, mesh, trainee.card, once, ("train/nll", "train/top1")
    )
    seed = config.seed if config.init_from == RANDOM else 0
    rules = rules_of(config, mesh.shape["fsdp"])

    def params() -> tuple[Any, dict | None]:
        found, upstream = trainee.initial()
        if found is None:
            size = trainee.card.image_size
            found = jax.jit(lambda: step.init_params(trainee.model, size, seed))()
        return jax.device_put(found, placement.shardings(found, found, mesh, rules)), upstream

    return Probe(
        trainee=trainee,
        l2=tuple(map(float, l2)),
        reader=reader,
        evaluations=evaluations,
        writers=writers.parse(config.writers),
        params=params,
    )


def _check(config: ConfigDict, trainee: Trainee) -> None:
    """Refuses data and models that a probe is not for, and transforms that draw."""
    if len(sources.parts(trainee.source)) > 1:
        raise errors.BadInput(
            f"config.input.mixture={config.input.mixture}: a probe sees each image once, so there "
            f"are no shares: leave it out"
        )
    if trainee.labels.kind != "class":
        raise errors.BadInput(
            f"config.probe.l2: a probe is for one label per image, but {config.dataset} has "
            f"{label_kinds.KINDS[trainee.labels.kind]}: choose another dataset"
        )
    size, text = trainee.card.image_size, config.input.transform
    if drawn.draws(transforms.parse(text, size), size):
        raise errors.BadInput(
            f"config.input.transform={text!r} draws at random, but a probe sees each image once: "
            f"expected the transform that the model is to be used with, such as "
            f"{trainee.card.transform!r}"
        )
    shapes, name = fitting.shapes(trainee.model, size), type(trainee.model).__name__
    _, width = _forward(trainee)
    classes = trainee.model.num_classes
    head = {part: leaf.shape for part, leaf in dict(shapes.get("head", {})).items()}
    if head != {"kernel": (width, classes), "bias": (classes,)}:
        raise errors.BadInput(
            f"config.probe.l2: a probe trains a Dense layer `head` on the {width} features that "
            f"{name} returns with num_classes=0, but its head is {head or 'missing'}"
        )


def _forward(trainee: Trainee) -> tuple[Callable, int]:
    return forward_of(trainee.model, trainee.mesh, trainee.card, "probe.l2")


@dataclasses.dataclass(frozen=True)
class _Fitted:
    """The head, the metrics so far, and how many images could not be read."""

    head: probe.Head
    metrics: dict[str, float]
    skipped: int


def carry_out(config: ConfigDict, path: epath.Path, protocol: str, stop: StopSignal) -> None:
    """Probes and measures the model; a stop before the end saves nothing.

    Raises:
      BadInput: before anything is written.
      Failure: a feature or the loss is NaN or infinite.
    """
    asked = build_probe(config)
    trainee, examples = asked.trainee, fingerprints(asked.readers)
    exchange.from_first(lambda: writers.check(asked.writers))
    exchange.same_work(0, examples)
    print_sources(asked.readers, {e.name: e.measured for e in asked.evaluations})
    if trouble := exchange.first_error(unreadable(asked.evaluations)):
        raise errors.BadInput(trouble)
    params, upstream = asked.params()
    workdir.begin(path, config)
    with (
        holding.hold(path) as check_ours,
        Store(path / "checkpoints", first_message=exchange.first_error) as store,
        MetricsLog(path, 0, 0, check_ours, asked.writers, workdir.recorded(path)) as log,
    ):
        began = time.perf_counter()
        fitted = _fit(asked, params, stop)
        params = fitted and params | _placed(fitted.head, params)
        measured = fitted and _measured(asked, params, stop)
        if measured is None:
            print(f"stopped by {stop.received}: nothing is saved; the same command begins again")
            return
        metrics = fitted.metrics | measured
        seconds = time.perf_counter() - began
        log.write(_STEP, metrics)
        log.flush()
        exchange.from_first(check_ours)
        days = seconds * trainee.mesh.size / 86400
        meta = {"card": dataclasses.asdict(trainee.card), "results": metrics, "data": examples}
        meta |= {"upstream": upstream, "epochs": 1.0, "device_days": days}
        store.save(_STEP, {"params": params}, meta, None)
        store.wait()
        workdir.write_results(
            path,
            Results(
                run="train",
                protocol=protocol,
                model=trainee.card.model["name"],
                dataset=trainee.card.dataset,
                resolution=resolution(trainee.card.image_size),
                step=_STEP,
                epochs=1.0,
                batch_size=asked.reader.batch_size,
                seconds=seconds,
                params=sum(x.size for x in jax.tree.leaves(params)),
                metrics=metrics,
                upstream=upstream,
                device_days=days,
                mesh=dict(trainee.mesh.shape),
                precision=precision(trainee.model),
                decoder=turbojpeg.decoder(),
                skipped_examples=fitted.skipped,
            ),
        )
        log.finish(metrics)
        print(f"done: {path / workdir.RESULTS}", flush=True)


def _fit(asked: Probe, params: Any, stop: StopSignal) -> _Fitted | None:
    """The head for these features; None if stopped."""
    trainee = asked.trainee
    began = time.perf_counter()
    with asked.reader.batches() as batches:
        forward = compiled(_forward(trainee)[0], trainee.mesh)
        found = features.extract(forward, params, batches, stop.poll)
    if found is None:
        return None
    count, width = found.features.shape
    seconds = time.perf_counter() - began
    print(f"{width} features of each of {count:,} images, in {seconds:.1f} s", flush=True)
    problem = probe.Problem.of(found, trainee.model.num_classes, trainee.mesh)
    l2 = probe.choose(problem, asked.l2, _print_choice, stop.poll)
    if l2 is None:
        return None
    fit = problem.fit(l2, problem.rows)
    nll, top1 = problem.measure(fit, problem.rows)
    if not math.isfinite(nll):
        raise errors.Failure(f"the loss of the probe with l2={l2:g} is {nll}")
    print(f"l2 {l2:g}, all images: {_shown(fit, nll, top1)}", flush=True)
    metrics = {"train/nll": nll, "train/top1": top1}
    metrics |= {"probe/l2": l2, "probe/iterations": fit.iterations}
    return _Fitted(problem.head(fit), metrics, batches.skipped_by_all())


def _print_choice(l2: float, fit: probe.Fit, nll: float, top1: float) -> None:
    print(f"l2 {l2:g}, held-out images: {_shown(fit, nll, top1)}", flush=True)


def _shown(fit: probe.Fit, nll: float, top1: float) -> str:
    late = "" if fit.slope <= probe.TOLERANCE else f", not yet flat (slope {fit.slope:.1e})"
    return f"nll {nll:.4f}  top1 {top1:.4f}  ({fit.iterations} iterations of L-BFGS{late})"


def _placed(head: probe.Head, params: Any) -> dict[str, Any]:
    """The head on the devices of the one that it replaces."""
    found = {"kernel": head.kernel, "bias": head.bias}
    return {"head": {k: jax.device_put(v, params["head"][k].sharding) for k, v in found.items()}}


def _measured(asked: Probe, params: Any, stop: StopSignal) -> dict[str, float] | None:
    """The metrics of all evaluators, `<name>/<metric>`; None if stopped."""
    metrics = {}
    for evaluation in asked.evaluations:
        found = evaluation.measure(params, stop.poll)
        if found is None:
            return None
        metrics |= {f"{evaluation.name}/{key}": value for key, value in found.items()}
        shown = "  ".join(f"{evaluation.name}/{key} {value:.4f}" for key, value in found.items())
        print(shown, flush=True)
    return metrics

"""Builds the config's evaluators; see also features_evaluation.py."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data.pipeline import BadExample
from mixer.evaluation import (  # noqa: F401 importing them registers the evaluators
    answers,
    classification,
    imagenet_subsets,
    multilabel,
    regression,
)
from mixer.evaluation import views as views_lib
from mixer.evaluation.registry import EVALUATORS, Evaluator, directions, evaluate, takes
from mixer.runs import fewshot_evaluation, knn_evaluation
from mixer.runs.data import evaluation_reader, first_few, unless_missing
from mixer.runs.features_evaluation import readable
from mixer.runs.labels import check_evaluator
from mixer.runs.model import apply_of, compiled
from mixer.runs.reader import Batches, Reader

# Suffix of an evaluator's name for metrics of the averaged parameters.
AVERAGED = "_ema"


class Evaluation(Protocol):
    """The interface of an evaluator to the runs.

    Attributes:
      name: the key of `config.evaluators.<name>`.
      every: steps between two evaluations; 0 for the parameters of an earlier run.
      update: (parameters, batch) -> the batch's contribution to the metrics; jitted.
    """

    name: str
    every: int
    update: Callable

    @property
    def readers(self) -> list[Reader]:
        """The readers of all its data."""

    @property
    def measured(self) -> list[Reader]:
        """Those of `readers` whose images are measured, and so should not be trained on."""

    @property
    def directions(self) -> dict[str, bool]:
        """Whether higher is better, for each metric by which a checkpoint may be chosen."""

    def measure(
        self, params: Any, interrupted: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Metrics by name; None if `interrupted()` became true.

        With `config.input.on_bad=skip`, `skipped` counts the unreadable examples.
        """


@dataclasses.dataclass(frozen=True)
class OnSplit:
    """An `Evaluation` that measures one split.

    Attributes:
      answer: the evaluator's `answer`, compiled; None if it has none.
    """

    name: str
    evaluator: Evaluator
    update: Callable
    reader: Reader
    every: int
    answer: Callable | None

    @property
    def readers(self) -> list[Reader]:
        """See `Evaluation`, as for the members below."""
        return [self.reader]

    @property
    def measured(self) -> list[Reader]:
        """The whole split."""
        return self.readers

    @property
    def directions(self) -> dict[str, bool]:
        """Those of the evaluator."""
        return directions(self.evaluator)

    def measure(
        self, params: Any, interrupted: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Metrics of the whole split."""
        with self.reader.batches() as batches:
            some = readable(self.reader, batches, self.name)
            measured = evaluate(self.evaluator, self.update, params, some, interrupted)
        return None if measured is None else measured | self._skipped(batches)

    def measure_and_answer(self, params: Any) -> tuple[dict[str, float], Any]:
        """Metrics of the whole split, and the answer to each image, if there is an `answer`."""
        with self.reader.batches() as batches:
            into = getattr(self.evaluator, "answers", answers.Answers)
            some = readable(self.reader, batches, self.name)
            total, found = answers.extract(self.answer, params, some, into)
        return self.evaluator.summarize(total) | self._skipped(batches), found

    def _skipped(self, batches: Batches) -> dict[str, int]:
        return {"skipped": batches.skipped_by_all()} if self.reader.rows.skip_bad else {}


def build_on_split(
    config: ConfigDict,
    name: str,
    model: nn.Module,
    mesh: Mesh,
    card: ModelCard,
    steps: Callable[[str, str], int] | None,
) -> OnSplit:
    """Builds `config.evaluators.<name>`.

    Args:
      card: the model's image size, classes and, outside training, preprocessing.
      steps: (duration, key) -> steps of the training; None for the parameters of an earlier run.

    Raises:
      BadInput: unknown type or dataset, or classes that are not the model's.
      Missing: its data do not exist.
    """
    entry = config.evaluators[name]
    key = f"evaluators.{name}"
    # Before the data are opened: whether a key counts as read must not depend on missing data.
    every = steps(entry.every, f"{key}.every") if steps else 0
    if entry.type not in EVALUATORS:
        raise errors.unknown(f"config.{key}.type", entry.type, [*EVALUATORS, *_OF_SEVERAL])
    views = views_lib.parse(entry.views, f"{key}.views")
    dataset = entry.dataset or config.dataset
    # In training the card takes its preprocessing from the config; elsewhere the card decides.
    transform = entry.transform if steps else card.transform
    reader = evaluation_reader(
        config, name, dataset, entry.split, transform, card, mesh, by_name=True
    )
    if views.crops > 1:
        reader = reader.in_five_crops(transform)
    source = reader.source
    if tuple(source.classes) != card.classes:
        unknown = [name for name in source.classes if name not in card.classes]
        lacking = f", and none called {errors.shown(unknown)}" if unknown else ""
        raise errors.BadInput(
            f"config.{key}: {dataset} has {len(source.classes)} classes "
            f"({first_few(source.classes)}), the model has {len(card.classes)} "
            f"({first_few(card.classes)}){lacking}"
        )
    apply = views_lib.averaged(apply_of(model, mesh), views, card.outputs)
    evaluator = EVALUATORS[entry.type](apply, model.num_classes)
    if named := getattr(evaluator, "named", None):
        evaluator = named(card.classes)
    check_evaluator(f"config.{key}.type", entry.type, takes(evaluator), source, card)
    answer = getattr(evaluator, "answer", None)
    return OnSplit(
        name,
        evaluator,
        compiled(evaluator.update, mesh),
        reader,
        every,
        answer and compiled(answer, mesh),
    )


# Types that measure several datasets: {type: (function that lists these, its builder)}. All other
# types are in `EVALUATORS` and measure one split.
_OF_SEVERAL = {
    "fewshot": (fewshot_evaluation.datasets_of, fewshot_evaluation.build_few_shot),
    "knn": (knn_evaluation.datasets_of, knn_evaluation.build_knn),
}


def splits_of(config: ConfigDict, name: str) -> list[tuple[str, str]]:
    """Each (dataset, split) that `config.evaluators.<name>` reads; [] if it is switched off."""
    entry = config.evaluators[name]
    if entry.type in _OF_SEVERAL:
        datasets = _OF_SEVERAL[entry.type][0](config, name)
        return [(dataset, split) for dataset, splits in datasets.items() for split in splits]
    return [(entry.dataset or config.dataset, entry.split)] if entry.split else []


def build_evaluations(
    config: ConfigDict,
    model: nn.Module,
    mesh: Mesh,
    card: ModelCard,
    steps: Callable[[str, str], int] | None,
    logged: Collection[str] = (),
) -> list[Evaluation]:
    """Builds the config's evaluators, in the order of their names; see `build_on_split`.

    Those without a split are left out, and optional ones whose data do not exist.

    Args:
      logged: names of the training's own metrics, such as "train/loss".

    Raises:
      BadInput: also for a name by which two numbers of a training would be called the same.
    """
    found = []
    for name in sorted(config.evaluators):
        if not splits_of(config, name):
            continue
        if steps:
            _check_name(name)
        entry = config.evaluators[name]
        _, build = _OF_SEVERAL.get(entry.type, (None, build_on_split))
        with unless_missing(entry.optional, f"config.evaluators.{name}"):
            found.append(build(config, name, model, mesh, card, steps))
            _check_metrics(found[-1], logged)
    return found


def _check_name(name: str) -> None:
    if name.endswith(AVERAGED):
        raise errors.BadInput(
            f"config.evaluators.{name}: {name}/... are the metrics of "
            f"{name.removesuffix(AVERAGED) or 'an evaluator'} with averaged parameters "
            f"(config.ema_decay): expected a name that does not end in {AVERAGED}"
        )
    if name == "training":  # as in `Training.readers`
        raise errors.BadInput(
            f"config.evaluators.{name}: the images trained on are recorded by this name: expected "
            f"another, such as train"
        )


def _check_metrics(evaluation: Evaluation, logged: Collection[str]) -> None:
    name = evaluation.name
    if same := [m for m in evaluation.directions if f"{name}/{m}" in logged]:
        raise errors.BadInput(
            f"config.evaluators.{name}: the training itself logs {name}/{same[0]}: expected "
            f"another name, such as {name}_part"
        )


def unreadable(evaluations: Sequence[Evaluation]) -> str | None:
    """Reads the first batch of each evaluation; returns the error of an unreadable example.

    Before that, the files that do not exist are looked for.
    """
    for evaluation in evaluations:
        try:
            for reader in evaluation.readers:
                if gone := reader.absent():
                    return f"config.evaluators.{evaluation.name}: {gone}"
                reader.try_first()
        except BadExample as error:
            return f"config.evaluators.{evaluation.name}: {error}"
    return None


def evaluation_transform(config: ConfigDict) -> str:
    """The evaluation transform, which the card records as the model's preprocessing.

    If the evaluators differ, it is that of `test`, else of `val`. Evaluators without a split count
    only if none has one.

    Raises:
      BadInput: they differ, and none is called test or val.
    """
    entries = {name: config.evaluators[name] for name in config.evaluators}
    known = {
        n: e.transform for n, e in entries.items() if e.type not in _OF_SEVERAL and e.transform
    }
    used = {name: known[name] for name in known if entries[name].split} or known
    for name in ("test", "val"):
        if name in used:
            return used[name]
    if len(set(used.values())) > 1:
        raise errors.BadInput(
            f"config.evaluators have several transforms ({', '.join(sorted(set(used.values())))}): "
            f"name test or val the evaluator whose transform the model is to be used with"
        )
    return next(iter(used.values()), "resize")


def keep_evaluators(config: ConfigDict, names: Collection[str]) -> None:
    """Removes all but `names` from `config.evaluators`."""
    with config.evaluators.unlocked() as evaluators:
        for name in set(evaluators) - set(names):
            del evaluators[name]

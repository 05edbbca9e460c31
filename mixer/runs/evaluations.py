"""From the config to its evaluators."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data.sources import max_labels
from mixer.evaluation import (  # noqa: F401 they register the evaluators
    classification,
    imagenet_subsets,
    multilabel,
)
from mixer.evaluation.registry import EVALUATORS, Evaluator, evaluate
from mixer.runs import fewshot_evaluation
from mixer.runs.data import evaluation_reader, some, unless_missing
from mixer.runs.model import apply_of, compiled
from mixer.runs.reader import Reader
from mixer.training import durations
from mixer.training.step import TrainState

# Behind an evaluator's name: by the averages of the parameters.
AVERAGED = "_ema"


class Evaluation(Protocol):
    """What measures parameters, to the runs that do so.

    Attributes:
      name: of `config.evaluators.<name>`.
      every: its cadence in steps; 0 for an earlier run's parameters.
      update: (parameters, batch) -> what a batch brings to the numbers, compiled.
    """

    name: str
    every: int
    update: Callable

    @property
    def readers(self) -> list[Reader]:
        """All that is read."""

    @property
    def measured(self) -> list[Reader]:
        """Of these, what is measured: nothing of it should be trained on."""

    @property
    def higher_is_better(self) -> tuple[str, ...]:
        """The metrics by which a checkpoint may be chosen."""

    def measure(
        self, params: Any, interrupted: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """The numbers by name; None if `interrupted()` became true.

        Where unreadable examples are left out, `skipped` counts them.
        """


@dataclasses.dataclass(frozen=True)
class OnSplit:
    """One evaluator on one split, with its cadence in steps."""

    name: str
    evaluator: Evaluator
    update: Callable
    reader: Reader
    every: int

    @property
    def readers(self) -> list[Reader]:
        """See `Evaluation`, as for what follows."""
        return [self.reader]

    @property
    def measured(self) -> list[Reader]:
        """All of it."""
        return self.readers

    @property
    def higher_is_better(self) -> tuple[str, ...]:
        """The evaluator's own."""
        return getattr(self.evaluator, "higher_is_better", ())

    def measure(
        self, params: Any, interrupted: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """The numbers over the whole split."""
        with self.reader.batches() as batches:
            measured = evaluate(self.evaluator, self.update, params, batches, interrupted)
        if measured is not None and self.reader.rows.skip_bad:
            measured["skipped"] = batches.skipped_by_all()
        return measured


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
      card: what the model expects.
      steps: (duration, key) -> steps while training; None for an earlier run's parameters.

    Raises:
      BadInput: unknown type or dataset, or classes that are not the model's.
      Missing: its data are not there.
    """
    entry = config.evaluators[name]
    key = f"evaluators.{name}"
    # Before the data are opened, which may be missing: a key is used or not whatever is there.
    every = steps(entry.every, f"{key}.every") if steps else 0
    if entry.type not in EVALUATORS:
        raise errors.unknown(f"config.{key}.type", entry.type, [*EVALUATORS, *_OF_SEVERAL])
    dataset = entry.dataset or config.dataset
    # In training the config's own preprocessing is the card's; in evaluation the card's counts.
    transform = entry.transform if steps else card.transform
    reader = evaluation_reader(
        config, name, dataset, entry.split, transform, card, mesh, by_name=True
    )
    source = reader.source
    if tuple(source.classes) != card.classes:
        raise errors.BadInput(
            f"config.{key}: {dataset} has {len(source.classes)} classes "
            f"({some(source.classes)}), the model has {len(card.classes)} ({some(card.classes)})"
        )
    evaluator = EVALUATORS[entry.type](apply_of(model, mesh), model.num_classes)
    if max_labels(source) and not getattr(evaluator, "multi_label", False):
        raise errors.BadInput(
            f"config.{key}.type={entry.type!r} is for one label an image, and those of {dataset} "
            f"may have {max_labels(source)}: set config.{key}.type=multilabel"
        )
    return OnSplit(name, evaluator, compiled(evaluator.update, mesh), reader, every)


# By type, the evaluators that measure several datasets: what they read, and what builds them. All
# others are `EVALUATORS`, on one split.
_OF_SEVERAL = {"fewshot": (fewshot_evaluation.splits_of, fewshot_evaluation.build_few_shot)}


def splits_of(config: ConfigDict, name: str) -> list[tuple[str, str]]:
    """(dataset, split) of all that `config.evaluators.<name>` reads; [] if it is not to measure."""
    entry = config.evaluators[name]
    if entry.type in _OF_SEVERAL:
        return _OF_SEVERAL[entry.type][0](config, name)
    return [(entry.dataset or config.dataset, entry.split)] if entry.split else []


def build_evaluations(
    config: ConfigDict,
    model: nn.Module,
    mesh: Mesh,
    card: ModelCard,
    steps: Callable[[str, str], int] | None,
) -> list[Evaluation]:
    """By name; see `build_on_split`.

    Those without a split are left out, and optional ones whose data are not there.
    """
    found = []
    for name in sorted(config.evaluators):
        if not splits_of(config, name):
            continue
        entry = config.evaluators[name]
        _, build = _OF_SEVERAL.get(entry.type, (None, build_on_split))
        with unless_missing(entry.optional, f"config.evaluators.{name}"):
            found.append(build(config, name, model, mesh, card, steps))
    return found


class Evaluations:
    """All evaluations of a training, each at its cadence, by the parameters and by their averages.

    Its metrics are called `<name>/<metric>`, and by the averages (EMA) `<name>_ema/<metric>`.

    Args:
      best: the metric by which the best checkpoint is chosen; "" for none.
      total: steps, after which all are due.
    """

    def __init__(self, evaluations: Sequence[Evaluation], best: str, total: int):
        self._evaluations, self._best, self._total = evaluations, best, total

    def due(self, at: int) -> list[Evaluation]:
        """Those of this step."""
        return [e for e in self._evaluations if durations.is_due(at, e.every, self._total)]

    def choose(self, at: int) -> bool:
        """Whether `best` is measured at this step."""
        chosen_by = self._best.partition("/")[0].removesuffix(AVERAGED)
        return any(evaluation.name == chosen_by for evaluation in self.due(at))

    def measure(
        self, at: int, state: TrainState, interrupted: Callable[[], bool]
    ) -> dict[str, float] | None:
        """The metrics of this step; None if `interrupted()` became true.

        Raises:
          Failure: `best` is not among them, though it should be.
        """
        metrics = {}
        for evaluation in self.due(at):
            kinds = {evaluation.name: state.params}
            if state.ema is not None:
                kinds[f"{evaluation.name}{AVERAGED}"] = state.ema
            for name, params in kinds.items():
                measured = evaluation.measure(params, interrupted)
                if measured is None:
                    return None
                metrics |= {f"{name}/{key}": value for key, value in measured.items()}
        if self.choose(at) and self._best not in metrics:
            raise errors.Failure(
                f"config.best={self._best} was not measured, see above: choose another of "
                f"{', '.join(metrics)}"
            )
        return metrics


def evaluation_transform(config: ConfigDict) -> str:
    """The preprocessing that goes with the parameters: that of evaluation.

    If the evaluators differ it is that of `test`, else of `val`; those without a split count only
    where there are no others.

    Raises:
      BadInput: they differ, and none of them is called so.
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
            f"call one of them test or val, by which the model is to be used later"
        )
    return next(iter(used.values()), "resize")


def keep_evaluators(config: ConfigDict, names: Collection[str]) -> None:
    """Removes all others from `config.evaluators`."""
    with config.evaluators.unlocked() as evaluators:
        for name in set(evaluators) - set(names):
            del evaluators[name]

"""Refuses losses and evaluators that are not for the labels of the data."""

from collections.abc import Sequence

from mixer import errors
from mixer.checkpoint.model_card import ModelCard
from mixer.data.sources import Source, label_kinds
from mixer.data.sources.label_kinds import KINDS, Labels
from mixer.training import losses

_EVALUATORS = {
    "class": "classification",
    "classes": "multilabel",
    "distribution": "classification",
    "probabilities": "multilabel",
    "values": "regression",
}


def check_loss(loss: str, given: Labels, dataset: str, smoothing: float) -> None:
    """Refuses `config.loss` for other labels, and label smoothing without classes.

    Raises:
      BadInput: see above, or there is no such loss.
    """
    losses.named(loss)
    takes = losses.TAKES[loss]
    if given.kind not in takes:
        usual = next(other for other, kinds in losses.TAKES.items() if given.kind in kinds)
        raise _refusal(f"config.loss={loss!r}", takes, given, dataset, f"config.loss={usual}")
    if loss == losses.REGRESSION and smoothing:
        raise errors.BadInput(
            f"config.label_smoothing={smoothing} spreads targets over classes, but "
            f"config.loss={loss} is for numbers: set it to 0"
        )


def check_evaluator(
    key: str, name: str, takes: Sequence[str], source: Source, card: ModelCard
) -> None:
    """Refuses labels that an evaluator does not take, and outputs that it does not measure.

    Args:
      key: its `config.evaluators.<name>.type`, which is `name`.
    """
    given = label_kinds.of(source)
    if card.regression != ("values" in takes):
        usual = "regression" if card.regression else _EVALUATORS[given.kind]
        outputs = "numbers, by config.loss=mse" if card.regression else "logits of classes"
        raise errors.BadInput(
            f"{key}={name!r} does not measure outputs that are {outputs}: set {key}={usual}"
        )
    if given.kind not in takes:
        fits = f"{key}={_EVALUATORS[given.kind]}"
        raise _refusal(f"{key}={name!r}", takes, given, source.name, fits)


def _refusal(
    setting: str, takes: Sequence[str], given: Labels, dataset: str, fits: str
) -> errors.BadInput:
    has = {
        "class": f"images of {dataset} have one class each",
        "classes": f"images of {dataset} may have {given.most} labels",
    }.get(given.kind, f"the labels of {dataset} are {KINDS[given.kind]}")
    in_manifest = dataset.startswith("manifest:")
    mend = "call their column label" if in_manifest else "store them as integers"
    also = f". If they number classes, {mend}" if given.kind == "values" else ""
    if given.kind == "probabilities" and "distribution" in takes:
        within = label_kinds.ROUNDING
        also = f". If each image's should add up to 1, bring them to it within {within:g}"
    known = " or ".join(KINDS[kind] for kind in takes)
    return errors.BadInput(f"{setting} is for {known}, but {has}: set {fits}{also}")

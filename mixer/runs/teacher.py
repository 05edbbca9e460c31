"""Builds the teacher of a distillation, `config.distill`, from any trained weights."""

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors, loading
from mixer.checkpoint.reading import again_if_gone
from mixer.data.sources.label_kinds import KINDS, Labels
from mixer.runs.keys import within
from mixer.runs.model import rules_of
from mixer.runs.weights import check_no_secret, origin_of, parse_step
from mixer.training import distillation, losses, optimizer, placement
from mixer.training.distillation import Distillation
from mixer.weights import fitting, resize

_KINDS = ("soft", "hard")
_KINDS_OF_LABELS = ("class", "distribution")


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A teacher, whose parameters are not loaded yet.

    Attributes:
      distillation: what the training step needs of it.
      shapes: shapes, dtypes and placements of its parameters.
      origin: for results.json: `weights.origin_of`, `step`, `ema`, and `checksums`, a digest of
        those of a workdir's arrays.
      line: says in one line what it is.
      read: () -> its parameters.
    """

    distillation: Distillation
    shapes: Any
    origin: dict[str, Any]
    line: str
    read: Callable[[], Any]

    @functools.cached_property
    def params(self) -> Any:
        """Its parameters, on the devices.

        Raises:
          BadInput: they cannot be read, or do not fit its model.
        """
        return jax.device_put(self.read(), jax.tree.map(lambda x: x.sharding, self.shapes))

    def load(self) -> None:
        """Loads `params` now, and says what it is."""
        jax.block_until_ready(self.params)
        print(self.line, flush=True)


@again_if_gone
def teacher_of(
    config: ConfigDict,
    model: nn.Module,
    image_size: tuple[int, int],
    mesh: Mesh,
    labels: Labels,
    classes: Sequence[str] | None,
) -> Teacher | None:
    """The teacher in `config.distill.teacher`; None without one.

    Args:
      model: the student; the teacher computes in its precision.
      labels: of the student's images.
      classes: the student's class names; None: unknown.

    Raises:
      BadInput: nothing usable there, other classes than the student's, a number out of range, or
        labels other than one class or one distribution for each image.
    """
    asked = config.distill
    if not asked.teacher:
        return None
    key = f"config.distill.teacher={asked.teacher}"
    check_no_secret(asked.teacher, "distill.teacher")
    at = parse_step(asked.step, "distill.step")
    found, card, load = loading.find(
        asked.teacher, model=asked.model or None, step=at, ema=asked.ema
    )
    if labels.kind not in _KINDS_OF_LABELS or config.loss == losses.REGRESSION or card.regression:
        raise errors.BadInput(
            f"{key}: a teacher gives each image one distribution over classes, so it and "
            f"{config.dataset} must have one label per image (here: {KINDS[labels.kind]}), and "
            f"config.loss must not be {losses.REGRESSION}"
        )
    _check_classes(key, card.classes, found.num_classes, config.dataset, model, classes)
    if card.channels != batch_lib.channels(model):
        raise errors.BadInput(
            f"{key}: its images have {card.channels} channels, and the student's "
            f"{batch_lib.channels(model)} (config.model.in_chans): expected the same"
        )
    if card.image_size != image_size:
        found = resize.at_resolution(found, image_size, card.image_size)
        load = functools.partial(load, image_size=image_size, pretrained_size=card.image_size)
    if hasattr(found, "dtype") and hasattr(model, "dtype"):
        found = found.clone(dtype=model.dtype)
    if classes is not None:
        load = functools.partial(load, classes=classes)
    origin, meta = origin_of(asked.teacher, card.step)
    return Teacher(
        distillation=_distillation(config, found),
        shapes=_placed(config, fitting.shapes(found, image_size), mesh),
        origin=origin | {"step": card.step, "ema": asked.ema} | _checksums(meta, asked.ema),
        line=_line(config, card, image_size),
        read=load,
    )


def _distillation(config: ConfigDict, teacher: nn.Module) -> Distillation:
    asked = config.distill
    if asked.kind not in _KINDS:
        raise errors.unknown("config.distill.kind", asked.kind, _KINDS)
    if not 0 <= asked.weight <= 1:
        raise errors.BadInput(f"config.distill.weight={asked.weight}: expected 0 <= weight <= 1")
    if asked.kind == "hard":
        return Distillation(teacher, distillation.hard(losses.named(config.loss)), asked.weight)
    within(0, math.inf, **{"distill.temperature": asked.temperature})
    if not asked.temperature:
        raise errors.BadInput("config.distill.temperature=0: expected more than 0; or kind=hard")
    return Distillation(teacher, distillation.soft(asked.temperature), asked.weight)


def _check_classes(
    key: str,
    theirs: Sequence[str],
    outputs: int,
    dataset: str,
    model: nn.Module,
    classes: Sequence[str] | None,
) -> None:
    """Refuses a teacher for other classes. The same ones in another order are put in ours."""
    mend = "expected a teacher for the same classes; one can be made with configs/finetune.py"
    if outputs != model.num_classes:
        raise errors.BadInput(
            f"{key} has {outputs:,} outputs, {dataset} has {model.num_classes:,} classes: {mend}"
        )
    if classes is None or set(theirs) == set(classes):
        return
    if tuple(theirs) == tuple(map(str, range(outputs))):
        print(
            f"the teacher's classes have no names: taken for those of {dataset}, in its order: "
            f"{errors.shown(classes)}",
            flush=True,
        )
        return
    others = sorted(set(theirs) - set(classes))
    raise errors.BadInput(
        f"{key} has other classes than {dataset}: {errors.shown(others)} are not among "
        f"{errors.shown(classes)}: {mend}"
    )


def _placed(config: ConfigDict, shapes: Any, mesh: Mesh) -> Any:
    """The shapes with placements by the student's rules, of which some may not be for a teacher."""
    names = optimizer.parameter_names(shapes)
    rules = [
        rule
        for rule in rules_of(config, mesh.shape["fsdp"])
        if any(re.search(rule[0], name) for name in names)
    ]
    places = placement.shardings(shapes, shapes, mesh, rules)
    return jax.tree.map(lambda x, place: x.update(sharding=place), shapes, places)


def _checksums(meta: dict | None, ema: bool) -> dict[str, str | None]:
    if meta is None:
        return {"checksums": None}
    # There are none of averages that a run does not have, which `Teacher.load` reports.
    text = json.dumps(meta["checksums"].get("ema" if ema else "params"), sort_keys=True)
    return {"checksums": hashlib.sha256(text.encode()).hexdigest()}


def _line(config: ConfigDict, card: Any, image_size: tuple[int, int]) -> str:
    asked = config.distill
    how = "its most likely class" if asked.kind == "hard" else f"temperature {asked.temperature:g}"
    at = f", step {card.step:,}" if card.step is not None else ""
    size = ""
    if card.image_size != image_size:
        size = f", resized from {card.image_size} to {image_size} pixels"
    return f"teacher: {card.model['name']} of {card.path}{at}{size}; {how}, weight {asked.weight:g}"

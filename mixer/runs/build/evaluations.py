"""All of `config.evaluators`."""

from collections.abc import Callable

from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer.checkpoint.pretrained import Card
from mixer.runs.build.few_shot import FewShot, build_few_shot
from mixer.runs.build.parts import Evaluation, build_evaluation, unless_missing


def build_evaluations(
    config: ConfigDict,
    model: nn.Module,
    mesh: Mesh,
    card: Card,
    steps: Callable[[str, str], int] | None,
) -> list[Evaluation | FewShot]:
    """By name; see `build_evaluation`.

    Those without a split are left out, and optional ones whose data are not there.
    """
    found = []
    for name in sorted(config.evaluators):
        entry = config.evaluators[name]
        several = entry.type == "fewshot"
        if not several and not entry.split:
            continue
        build = build_few_shot if several else build_evaluation
        with unless_missing(entry.optional, f"config.evaluators.{name}"):
            found.append(build(config, name, model, mesh, card, steps))
    return found

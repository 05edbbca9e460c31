"""`config.run="convert"`: converts weights to another file, a folder for the Hub, or a program."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
from etils import epath
from flax import linen as nn
from ml_collections import ConfigDict

from mixer import errors, storage
from mixer.checkpoint.model_card import ModelCard
from mixer.checkpoint.reading import again_if_gone
from mixer.models import registry
from mixer.runs import soup, workdir
from mixer.runs.evaluations import evaluation_transform
from mixer.runs.imports import check_trusted, import_modules
from mixer.runs.model import build_model, image_size_of, model_fields, resolution
from mixer.runs.results import Results
from mixer.runs.weights import (
    card_of_config,
    pretrained_size_of,
    telling_the_model,
    upstream_of,
)
from mixer.weights import formats, hub_push, pretrained, programs, saving
from mixer.weights.formats import hub_page
from mixer.weights.located import locate
from mixer.weights.stored import read_stored


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The weights to write, and `target`: a file, a folder if it ends in a slash, or a program."""

    model: nn.Module
    params: dict[str, Any]
    card: ModelCard
    step: int | None
    upstream: dict
    target: str
    metrics: dict[str, float]
    page: dict[str, Any] = dataclasses.field(default_factory=dict)


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes `config.convert_to`, then results.json.

    Raises:
      BadInput: before anything is written.
    """
    found = conversion(config)
    workdir.begin(path, config)
    metrics = dict(found.metrics)
    if programs.format_of(found.target):
        difference = programs.save(found.target, found.params, found.model, found.card)
        metrics["logits_difference"] = difference
        print(f"its own runtime gives our logits of two random images, to {difference:.1e}")
    elif found.target.endswith("/"):
        saving.save_folder(found.target, found.params, found.model, found.card, **found.page)
    else:
        saving.save_pretrained(found.target, found.params, found.model, found.card.image_size)
    count = sum(x.size for x in jax.tree.leaves(found.params))
    name = found.card.model["name"]
    print(f"{name}, {count:,} parameters: {config.init_from} -> {found.target}")
    if found.page.get("repo"):
        print(f"pushed to {hub_push.push(found.target, config.push)}", flush=True)
    workdir.write_results(
        path,
        Results(
            run="convert",
            protocol=protocol,
            model=name,
            resolution=resolution(found.card.image_size),
            step=found.step,
            params=count,
            metrics=metrics,
            upstream=found.upstream,
        ),
    )


@again_if_gone
def conversion(config: ConfigDict) -> Conversion:
    """Loads `config.init_from` for `config.convert_to`.

    A workdir, a published name or a folder records its model. The model of a plain file is the
    config's, with as many classes as the file's head.

    Raises:
      BadInput: nothing usable there, or a target that exists or has an unknown ending.
    """
    path, target = config.init_from, config.convert_to
    if not path:
        raise errors.BadInput(
            "config.run=convert needs --config.init_from=WORKDIR, a file, a folder of the Hub or "
            "a published name"
        )
    if not target.lower().endswith((*formats.ENDINGS, *programs.FORMATS, "/")):
        raise errors.BadInput(
            f"config.convert_to={target!r}: expected OUT.npz (the published names), "
            f"OUT.safetensors (timm's), FOLDER/ (for the Hugging Face Hub), or a program: "
            + ", ".join(
                f"{'FOLDER/' if end[-1] == '/' else 'OUT'}{end}" for end in programs.FORMATS
            )
        )
    if storage.is_remote(target):
        raise errors.BadInput(
            f"config.convert_to={target!r}: expected a local path; copy the result from there"
        )
    if Path(target).expanduser().exists():
        raise errors.BadInput(f"config.convert_to={target!r} exists: remove it, or choose another")
    with telling_the_model(config):
        found = _averaged(config) if config.soup else _loaded(config)
    # Refuses now what cannot be written in that format.
    if programs.format_of(target):
        programs.check(target, found.params)
    elif target.endswith("/"):
        if found.card.regression:
            raise errors.BadInput(
                f"config.convert_to={target!r}: a folder of the Hub is for classes, but {path} "
                f"predicts numbers ({errors.shown(found.card.classes)}): convert to a file"
            )
        hub_page.describe(found.model, found.card)
        return dataclasses.replace(found, page=_page(config, found))
    else:
        saving.arranged(target, found.params, found.model, found.card.image_size)
    return found


def _page(config: ConfigDict, found: Conversion) -> dict[str, Any]:
    """What README.md says besides the model; see `hub_page.readme`."""
    repo = ""
    if config.push:
        hub_push.check(config.push)
        repo = hub_push.parse(config.push).repo
    if not config.license:
        print("README.md states no licence: config.license=apache-2.0, for example, adds one")
    elif not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", config.license):
        raise errors.BadInput(
            f"config.license={config.license!r}: expected the Hub's name of a licence, such as "
            f"apache-2.0, mit or cc-by-nc-4.0"
        )
    measured = found.metrics or _measured(config.init_from, found.step)
    return {"repo": repo, "license": config.license, "measured": measured}


def _measured(path: str, step: int | None) -> dict[str, float]:
    """The metrics of a workdir's results.json if they are of this step; else {}."""
    if step is None:
        return {}
    results = workdir.read_json(workdir.open_workdir(path) / workdir.RESULTS) or {}
    metrics = results.get("metrics", {}) if results.get("step") == step else {}
    return {name: value for name, value in metrics.items() if isinstance(value, float)}


def _averaged(config: ConfigDict) -> Conversion:
    made = soup.of_runs(config)
    run = made.trained
    return Conversion(
        run.model, run.params, run.card, run.step, run.upstream, config.convert_to, made.metrics
    )


def _loaded(config: ConfigDict) -> Conversion:
    path = config.init_from
    import_modules(config.imports)
    upstream, meta = upstream_of(config)
    if meta is not None:
        card, step = ModelCard.from_json(meta["card"]), meta["step"]
        check_trusted(card.imports, config.imports, path)
    else:
        located = locate(path)
        brings_card = located.entry or located.folder
        card, step = card_of_config(config) if brings_card else _card_of_file(config), None
    fields = dict(card.model)
    model = build_model(fields.pop("name"), fields, card.image_size)
    ema = meta is not None and config.init_ema
    params = pretrained.load_pretrained(path, model, step=step, head="keep", ema=ema)
    return Conversion(model, params, card, step, upstream, config.convert_to, {})


def _card_of_file(config: ConfigDict) -> ModelCard:
    fields = model_fields(config)
    model = registry.create_model(**fields | {"num_classes": 0})
    stored = read_stored(config.init_from, model)
    head = stored.arrays.get("head/bias")
    fields["num_classes"] = fields["num_classes"] or (0 if head is None else head.size)
    return ModelCard(
        model=fields,
        image_size=stored.size(model, image_size_of(config), pretrained_size_of(config)),
        transform=evaluation_transform(config),
        classes=(),
        dataset="",
    )

"""`config.run="show"`: a recipe's keys, what they mean, and the numbers that follow from them.

Among them are estimates of the time and cost of its training on accelerators.

It takes the command of any run, without a workdir, writes nothing and computes nothing. It refuses
no key that another run would use.
"""

import contextlib
import shutil
import textwrap
from collections.abc import Iterator
from typing import Any

import jax
from ml_collections import ConfigDict

from configs import common, groups, meanings
from configs.arguments import Arguments
from mixer import errors
from mixer.data import sources
from mixer.data.sources import Source
from mixer.planning import flops, peaks, slices
from mixer.runs import estimate, keys
from mixer.runs.bill import known_images, work_of
from mixer.runs.data import training_source
from mixer.runs.estimate import Load
from mixer.runs.imports import import_modules
from mixer.runs.model import build_model, image_size_of, model_fields
from mixer.runs.plan import known_classes
from mixer.runs.sam import passes
from mixer.training import durations
from mixer.weights import fitting

# Seconds. A shorter step waits for the host, which an estimate does not know.
_SHORTEST_STEP = 0.001
_WIDEST_VALUE = 16  # a longer one moves its meaning to the next line


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Prints the keys, then the numbers.

    Raises:
      BadInput: a value is invalid.
    """
    import_modules(config.imports)
    keys.at_least(1, batch_size=config.batch_size)
    numbers = dict(_numbers(config))
    print("\n".join([f"{protocol}\n", *keys_of(config), "\nWhat follows from them:\n"]))
    width = max(map(len, numbers))
    for name, text in numbers.items():
        print(f"    {name:<{width}}  {text}")


def keys_of(config: ConfigDict) -> list[str]:
    """Lines that show each key, its value and meaning, in the order of common.py and groups.py."""
    values = keys.flat(config.to_dict())
    defaults = keys.flat(_defaults(config).to_dict())
    given = keys.given(config)
    order = {key: i for i, key in enumerate(meanings.of_common())}
    # A model's own fields and the evaluators are not in those files: they end their group.
    ends = {key.partition(".")[0]: i for key, i in order.items()}
    place = {key: order.get(key, ends.get(key.partition(".")[0], len(order))) for key in values}
    width = max(map(len, values))
    lines = ["Keys, each set by --config.KEY=VALUE; * is not the default, + is set in the command:"]
    group = None
    for key in sorted(values, key=place.get):
        if (own := key.rpartition(".")[0].partition(".")[0]) != group:
            group, heading = own, meanings.of(own, config) if own else ""
            heading = heading.removeprefix(f"{group}: ")
            lines += ["", f"{group}: {heading}"] if heading else [""]
        mark = "*" if key not in defaults or values[key] != defaults[key] else " "
        mark += "+" if key in given else " "
        lines += _entry(f"{mark} {key:<{width}}", values[key], meanings.of(key, config))
    return lines


def _entry(key: str, value: Any, meaning: str) -> list[str]:
    """Key, value and meaning side by side; the meaning may take several lines."""
    begin = f"{key}  {value!r:<{_WIDEST_VALUE}}"
    indent = " " * (len(key) + 2 + _WIDEST_VALUE + 2)
    room = max(shutil.get_terminal_size((120, 24)).columns - len(indent), 30)
    first, *others = textwrap.wrap(meaning, room) or [""]
    if len(repr(value)) > _WIDEST_VALUE:
        return [begin, *(f"{indent}{line}" for line in [first, *others] if line)]
    return [f"{begin}  {first}".rstrip(), *(f"{indent}{line}" for line in others)]


def _defaults(config: ConfigDict) -> ConfigDict:
    """The defaults for this model, dataset and resolution, which have no default themselves."""
    arguments = Arguments(config.model.name, config.dataset, config.image_size[0])
    found = common.base(arguments, groups.ALL)
    found.run = "train"
    for name, entry in config.evaluators.items():
        found.evaluators[name] = common.default_evaluator(config, entry.type)
    return found


def _numbers(config: ConfigDict) -> Iterator[tuple[str, str]]:
    """(name, text) of each number known about the data, the training and the model."""
    if "reproduce" in config and config.reproduce.rows:
        yield "runs", "from other recipes: --config.reproduce.list=True lists them and their cost"
        return
    source, whole, trouble = _data(config)
    if source is None:
        yield "training images", f"not known: {trouble}"
    else:
        yield "training images", sources.summary(source)
        if not sources.label_kinds.of(source).are_vectors:
            share, classes = len(source) / len(source.classes), len(source.classes)
            yield "images per class", f"{share:,.1f} on average over {classes:,} classes"
    yield from _durations(config, whole or known_images(config.dataset, config.input.split))
    yield from _of_model(config, len(source.classes) if source else 0)


def _data(config: ConfigDict) -> tuple[Source | None, int | None, str]:
    """(training images, size of their whole split, ""), or (None, None, why they are unknown)."""
    if not config.dataset:
        return None, None, "the recipe has no training data"
    own = config.copy_and_resolve_references()
    own.input.stage = ""  # nothing is copied
    try:
        return *training_source(own), ""
    except errors.Missing as error:
        return None, None, str(error)


def _durations(config: ConfigDict, images: int | None) -> Iterator[tuple[str, str]]:
    if not config.dataset:
        return
    if config.probe.l2:
        yield "training", "a linear probe: one forward pass over these images, without steps"
        return
    for name, key, duration in (
        ("training", "total", config.total),
        ("warm-up", "schedule.warmup", config.schedule.warmup),
    ):
        if images is None and "epoch" in duration:
            yield name, f"{duration}: number of steps unknown without the number of images"
            continue
        steps = durations.to_steps(duration, config.batch_size, images or 1, key)
        epochs = f", {steps * config.batch_size / images:,.2f} epochs" if images else ""
        yield name, f"{steps:,} steps, {steps * config.batch_size:,} images{epochs}"


def _of_model(config: ConfigDict, classes: int) -> Iterator[tuple[str, str]]:
    size = image_size_of(config)
    classes = config.model.num_classes or classes or _classes_of(config.dataset)
    fields = model_fields(config) | {"num_classes": classes}
    model = build_model(fields.pop("name"), fields, size)
    count = sum(leaf.size for leaf in jax.tree.leaves(fitting.shapes(model, size)))
    head = f"with a head of {classes:,} classes" if classes else "without the head"
    yield "parameters", f"{count:,}, {head}"
    try:
        answer = 2 * flops.forward_macs(model, size)
        load = estimate.load_of(model, size, passes(config))
    except flops.Uncountable as error:
        yield "GFLOPs per image", f"not known: {error}"
    else:
        each = f"{answer / 1e9:,.3g}; {load.flops / 1e9:,.3g} in training"
        each += " without the teacher" if config.distill.teacher else ""
        yield "GFLOPs per image", each
        if config.dataset and not config.probe.l2:
            yield from _on_accelerators(config, load)


def _on_accelerators(config: ConfigDict, load: Load) -> Iterator[tuple[str, str]]:
    """For `config.plan.topology`, or else for those that `reproduce` lists."""
    # A recipe of the user's own may lack the keys of other runs.
    asked = config if "reproduce" in config and "plan" in config else _defaults(config)
    work, price, topology = work_of(config), asked.plan.price, asked.plan.topology
    for name in (topology,) if topology else asked.reproduce.accelerators:
        peak, devices = peaks.by_product_name(slices.product_name(name))
        seconds = load.step_seconds(config.batch_size, devices, peak)
        unknown = ""
        if config.batch_size < devices:
            unknown = f"a batch of {config.batch_size:,} is too small for {devices:,} devices"
        elif seconds < _SHORTEST_STEP:
            unknown = "a step of less than a millisecond waits for the host"
        if unknown:
            if topology:
                yield f"on {name}", unknown
            continue
        text = f"a step takes about {seconds * 1e3:,.3g} ms"
        if work:
            found = work.bill(seconds, devices, price)
            text += f", training {found.hours:,.3g} hours or {found.device_days:,.3g} device-days"
            text += "" if found.cost is None else f", {found.cost:,.0f} at plan.price"
        yield f"on {name}", text


def _classes_of(dataset: str) -> int:
    """The number of classes of a dataset that is not prepared; 0 if unknown."""
    with contextlib.suppress(errors.BadInput):
        return known_classes(dataset)
    return 0

"""`config.run="doctor"`: checks on every host what a run needs, before the run is started.

It takes the command of the run, including its workdir, and leaves nothing there: neither config nor
results. The run that follows finds the workdir as it was, and one in progress is not disturbed.
"""

import functools
import hashlib
import json
import math
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mixer import errors
from mixer.data import turbojpeg
from mixer.data.decode import Encoded, opened
from mixer.data.sources import Source
from mixer.hosts import devices, exchange, peers, sharing
from mixer.hosts.checks import MAX_CLOCK_SKEW, Checks, Needs
from mixer.runs import estimate, input_rate, keys, start, workdir
from mixer.runs.data import decoding_of, open_data, training_reader, training_source
from mixer.runs.evaluations import splits_of
from mixer.runs.imports import import_modules
from mixer.runs.model import (
    build_model,
    channels_of,
    image_size_of,
    model_fields,
    rules_of,
    training_mesh,
)
from mixer.runs.training import build_training
from mixer.training import meshes, placement, writers
from mixer.weights import fitting

# One host's object -> the objects of all hosts, in order.
Gather = Callable[[Any], list[Any]]
Verdict = tuple[bool, str]

# {check on whose answer all hosts must agree: what to do if they do not}
_MUST_AGREE = {
    "python": "set up all hosts in the same way",
    "packages": "install the same wheels on all hosts",
    "devices": "start the command once on each host of one slice",
    "code": "copy the same commit to all hosts",
    "config": "give the same command on all hosts",
}


# Bytes per parameter, in float32: itself and Adam's two moments; its average (config.ema_decay).
_PARAMETER_BYTES, _AVERAGE_BYTES = 12, 4
# Batches in a process's memory: one being made, two waiting, one on its way to the devices.
_BATCHES_IN_MEMORY = 4
# Batches in shared memory for each worker process: one being made, one waiting.
_BATCHES_PER_WORKER = 2


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Prints a line for each check, on the first host.

    Raises:
      Failure: names the checks that failed.
    """
    needs = needs_of(config, output, peers.count())
    (token, *_) = _gather(uuid.uuid4().hex)
    me = peers.index()
    checks = Checks(needs, output, token, me, devices.accelerator())
    lines = verdicts(checks, _gather)
    for name, (good, text) in lines.items():
        print(f"{'ok' if good else 'failed':8}{name}: {text}", flush=True)
    if failed := [name for name, (good, _) in lines.items() if not good]:
        raise errors.Failure(f"{len(failed)} of {len(lines)} checks failed: {'; '.join(failed)}")


def _gather(one: Any) -> list[Any]:
    return [json.loads(text) for text in exchange.gather(json.dumps(one))]


def needs_of(config: ConfigDict, output: str, processes: int) -> Needs:
    """What a training with this config needs on one of `processes` processes; opens nothing yet.

    Raises:
      BadInput: the image size is invalid, or one of `config.imports` cannot be found.
    """
    import_modules(config.imports)
    batch = (
        -(-config.batch_size // processes) * math.prod(image_size_of(config)) * channels_of(config)
    )
    in_place = config.copy_and_resolve_references()
    in_place.input.stage = ""
    # Once, as it prints what it takes from `config.init_from`.
    trained = functools.cache(lambda: start.with_upstream_model(in_place))
    return Needs(
        workdir=lambda: workdir.open_workdir(output),
        config=lambda: _digest(config),
        data={
            name: functools.partial(_read_first, in_place, opens)
            for name, opens in _sources(in_place).items()
        },
        decoder=_decoder,
        layout=lambda: _layout(trained()),
        stage=functools.partial(_staged, config) if config.input.stage else None,
        training=None if config.probe.l2 else lambda: _training(trained()),
        rate=lambda: _rate(trained(), staged=bool(config.input.stage)),
        checkpoint_bytes=lambda: _checkpoint_bytes(trained()),
        checkpoints=config.runtime.keep_checkpoints + bool(config.best) + 1,  # one being written
        batch_bytes=_BATCHES_IN_MEMORY * batch,
        shared_bytes=_BATCHES_PER_WORKER * batch * config.runtime.workers,
    )


def _digest(config: ConfigDict) -> str:
    written = json.dumps(keys.as_json(config))
    return hashlib.sha256(written.encode()).hexdigest()[:12]


def _sources(config: ConfigDict) -> dict[str, Callable[[], Source | None]]:
    """{use: function that opens the source in place}; it returns None if optional and missing."""
    found = {"training": lambda: training_source(config)[0]}
    for name in sorted(config.evaluators):
        for dataset, split in splits_of(config, name):
            optional = config.evaluators[name].optional
            opens = functools.partial(_open, config, dataset, split, optional)
            found[f"{name}, {dataset} {split}"] = opens
    return found


def _open(config: ConfigDict, dataset: str, split: str, optional: bool) -> Source | None:
    try:
        return open_data(config, dataset, split)
    except errors.Missing:
        if not optional:
            raise
        return None


def _read_first(config: ConfigDict, opens: Callable[[], Source | None]) -> str:
    source = opens()
    if source is None:
        return "optional and missing: left out"
    try:
        image = opened(source[0]["image"], decoding_of(config, source))
        pixels = image.pixels() if isinstance(image, Encoded) else image
    except (ValueError, TypeError, OSError, RuntimeError) as error:
        raise errors.Failure(
            f"{source.name} {source.split}, its first example: {error}. Copy or prepare it again"
        ) from error
    return f"{len(source):,} examples, the first of {pixels.shape[0]} x {pixels.shape[1]} pixels"


def _decoder() -> str:
    if turbojpeg.available():
        return turbojpeg.decoder()
    return f"{turbojpeg.decoder()}: slower, with the same pixels; docs/data.md says what to install"


def _staged(config: ConfigDict) -> object:
    source, _ = training_source(config)
    return training_reader(config, source, meshes.make_mesh(), config.batch_size)


def _rate(config: ConfigDict, *, staged: bool) -> tuple[float, str]:
    source, _ = training_source(config)
    mesh = training_mesh(config, _shapes(config))
    reader = training_reader(config, source, mesh, config.batch_size)
    made = input_rate.measure(reader)
    each = estimate.images_per_second(config, mesh.devices.flatten().tolist())
    share = len(reader.rows.rows) / reader.batch_size
    wanted = each and each * mesh.size * share
    return made, input_rate.described(made, wanted, reader, staged=staged)


def _training(config: ConfigDict) -> str:
    training = build_training(config)
    if not peers.index():
        writers.check(training.writers)
    if absent := training.reader.absent():
        raise errors.Failure(absent)
    return training.headline()


def _layout(config: ConfigDict) -> str:
    shapes = _shapes(config)
    mesh = training_mesh(config, shapes)
    placement.parameter_specs(shapes, mesh, rules_of(config, mesh.shape["fsdp"]))
    sizes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    return f"{config.runtime.strategy}, {sizes}"


def _checkpoint_bytes(config: ConfigDict) -> int:
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(_shapes(config)))
    return parameters * (_PARAMETER_BYTES + _AVERAGE_BYTES * (config.ema_decay > 0))


def _shapes(config: ConfigDict) -> Any:
    """Shapes of the parameters."""
    fields = model_fields(config)
    name, classes = fields.pop("name"), fields.pop("num_classes")
    if not classes:
        try:
            classes = len(training_source(config)[0].classes)
        except errors.BadInput:  # the check of the training data reports it
            classes = 1
    size = image_size_of(config)
    return fitting.shapes(build_model(name, fields | {"num_classes": classes}, size), size)


def verdicts(checks: Checks, gather: Gather) -> dict[str, Verdict]:
    """{check: (whether all hosts passed it, message)}; the same on each host."""
    try:
        findings = checks.findings()
        found = {"findings": findings, "training": checks.training(findings)}
        # A transform that cannot be built would fail here, too.
        possible = found["training"] is None or found["training"][0]
        found["input"] = checks.input(findings) if possible else None
        reports = gather({"host": socket.gethostname()} | found)
        now = time.time()  # all hosts leave `gather` at the same moment
        written = all(report["findings"]["workdir"][0] for report in reports)
        sees = written and checks.sees_all(len(reports))
        later = gather({"time": now, "sees": sees})
    finally:
        checks.clean()
    hosts = [f"host {number} ({report['host']})" for number, report in enumerate(reports)]
    lines = {}
    for name in reports[0]["findings"]:
        found = [report["findings"].get(name, (False, "not in its config")) for report in reports]
        lines[name] = _of_all_hosts(name, found, hosts)
    both = zip(hosts, reports, strict=True)
    if built := {host: report["training"] for host, report in both if report["training"]}:
        lines["training"] = _of_all_hosts("training", list(built.values()), list(built))
    if any(report["input"] for report in reports):
        lines["input"] = _slowest([report["input"] for report in reports], hosts)
    if len(hosts) > 1:
        if lines["workdir"][0]:
            lines["shared workdir"] = _shared([report["sees"] for report in later], hosts)
        lines["clocks"] = _clocks([report["time"] for report in later], hosts)
    return lines


def _of_all_hosts(name: str, found: list[Verdict], hosts: list[str]) -> Verdict:
    """The verdict of all hosts on one check."""
    said = {}
    for host, (good, text) in zip(hosts, found, strict=True):
        said.setdefault((good, text if name in _MUST_AGREE or not good else ""), []).append(host)
    if len(said) == 1:
        return found[0]
    bad = {text: where for (good, text), where in said.items() if not good}
    shown = bad or {text: where for (_, text), where in said.items()}
    parts = "; ".join(f"{text} on {', '.join(where)}" for text, where in shown.items())
    return False, parts if bad else f"{parts}: {_MUST_AGREE[name]}"


def _slowest(found: list[tuple[bool, Any] | None], hosts: list[str]) -> Verdict:
    """The verdict on the input, which each host measures unless another of its checks failed."""
    measured = {host: one for host, one in zip(hosts, found, strict=True) if one}
    if not all(good for good, _ in measured.values()):
        return _of_all_hosts("input", list(measured.values()), list(measured))
    (_, words), host = min((one, host) for host, (_, one) in measured.items())
    who = "this host" if len(hosts) == 1 else f"{host}, the slowest of {len(measured)},"
    return True, f"{who} {words}"


def _shared(sees: list[bool], hosts: list[str]) -> Verdict:
    if all(sees):
        return True, "all hosts see what one writes"
    blind = [host for host, seen in zip(hosts, sees, strict=True) if not seen]
    return False, f"files of other hosts are not seen on {', '.join(blind)}: {sharing.FIX}"


def _clocks(times: list[float], hosts: list[str]) -> Verdict:
    apart = max(times) - min(times)
    if apart > MAX_CLOCK_SKEW:
        late, early = hosts[np.argmin(times)], hosts[np.argmax(times)]
        return False, f"{early} is {apart:,.0f} s ahead of {late}: set both by NTP"
    return True, f"at most {apart:.1f} s apart"

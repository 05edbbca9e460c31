"""`config.run="verify_zoo"`: checks published accuracies of weights on ImageNet's test sets."""

import time

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.runs import workdir
from mixer.runs.data import open_data
from mixer.runs.evaluate import evaluations_of
from mixer.runs.evaluations import keep_evaluators
from mixer.runs.model import resolution
from mixer.runs.results import Results
from mixer.runs.trained import load_trained
from mixer.weights import zoo
from mixer.weights.located import locate

_TOLERANCE = 0.1  # percentage points


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Measures the accuracies unless results.json has them; compares them with the published.

    Raises:
      BadInput: before anything is written.
      Failure: an accuracy differs from the published one.
    """
    path = workdir.unfinished(output, config)
    if path is not None:
        _measure(config, path, protocol)
    results = workdir.read_json(workdir.open_workdir(output) / workdir.RESULTS)
    passed = {k: v for k, v in results["metrics"].items() if k.endswith("/passed")}
    if wrong := [name.removesuffix("/passed") for name, value in passed.items() if not value]:
        raise errors.Failure(
            f"{len(wrong)} of {len(passed)} accuracies are not within {_TOLERANCE} percentage "
            f"points of the published ones: {', '.join(wrong)}"
        )


def _measure(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Writes results.json, whose metrics are `<name>/<evaluator>/<metric>`."""
    began, metrics, readers = time.perf_counter(), {}, []
    configs = _verification(config)
    for name, own in configs.items():
        trained = load_trained(own)
        evaluations = evaluations_of(own, trained)
        workdir.begin(path, config)
        print(f"{name}, sha256 {trained.upstream['sha256']}, {trained.card.transform}")
        print(f"{'':<10}{'images':>10}{'measured':>10}{'published':>10}", flush=True)
        for evaluation in evaluations:
            measured = evaluation.measure(trained.params)
            published = zoo.PUBLISHED[name].figures[evaluation.name]
            # Published figures have three decimals in %.
            passed = round(100 * abs(measured["top1"] - published), 3) <= _TOLERANCE
            found = {"top1": measured["top1"], "published": published, "passed": passed}
            metrics |= {f"{name}/{evaluation.name}/{key}": v for key, v in found.items()}
            percent = f"{100 * measured['top1']:>10.3f}{100 * published:>10.3f}"
            count = sum(len(reader.source) for reader in evaluation.readers)
            verdict = "pass" if passed else "FAIL"
            print(f"{evaluation.name:<10}{count:>10,}{percent}  {verdict}", flush=True)
        readers += [reader for evaluation in evaluations for reader in evaluation.readers]
    seconds = time.perf_counter() - began
    workdir.write_results(
        path,
        Results(
            run="verify_zoo",
            protocol=protocol,
            model=",".join(configs),
            dataset=",".join(dict.fromkeys(reader.source.name for reader in readers)),
            resolution=resolution(trained.card.image_size),
            seed=config.seed,
            batch_size=readers[0].batch_size,
            seconds=seconds,
            metrics=metrics,
            device_days=seconds * trained.mesh.size / 86400,
            precision=trained.precision,
        ),
    )


def _verification(config: ConfigDict) -> dict[str, ConfigDict]:
    """{published name: config of its evaluation on the test sets for which it has figures}.

    The names are those in `config.init_from`, or all with figures. Files not yet in the cache are
    downloaded. All test sets but ImageNet's validation set are optional.

    Raises:
      BadInput: a name without figures, a recipe without the evaluators, or ImageNet is missing.
      Failure: no connection to download a file.
    """
    known = [entry.name for entry in zoo.list_pretrained() if entry.figures]
    names = [name.strip() for name in config.init_from.split(",")] if config.init_from else known
    found = {}
    for name in names:
        if name not in known:
            raise errors.unknown("published name with figures", name, known)
        figures = zoo.PUBLISHED[name].figures
        if absent := [key for key in figures if key not in config.evaluators]:
            raise errors.BadInput(
                f"config.run=verify_zoo needs config.evaluators.{absent[0]}: use "
                f"--config=configs/imagenet.py"
            )
        found[name] = own = config.copy_and_resolve_references()
        own.init_from = name
        keep_evaluators(own, figures)
        for key, entry in own.evaluators.items():
            entry.update(split=entry.split or "test", optional=key != "val")
    val = config.evaluators.val
    open_data(config, val.dataset or config.dataset, val.split)  # before large downloads
    for name in found:
        locate(name)
    return found

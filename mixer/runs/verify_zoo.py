"""`config.run="verify_zoo"`: published weights on ImageNet's test sets, against their figures."""

import time

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.checkpoint import zoo
from mixer.runs import build, workdir

_TOLERANCE = 0.1  # percentage points


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Measures, prints and writes down; what was measured before is judged again.

    Raises:
      BadInput: before anything is written.
      Failure: an accuracy is not the published one.
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
    configs = build.verification(config)
    for name, own in configs.items():
        trained = build.trained(own)
        evaluations = build.evaluations(own, trained)
        workdir.begin(path, config)
        print(f"{name}, sha256 {trained.upstream['sha256']}, {trained.card.transform}")
        print(f"{'':<10}{'images':>10}{'measured':>10}{'published':>10}", flush=True)
        for evaluation in evaluations:
            measured = evaluation.measure(trained.params)
            published = zoo.PUBLISHED[name].figures[evaluation.name]
            # Figures have three decimals in %.
            passed = round(100 * abs(measured["top1"] - published), 3) <= _TOLERANCE
            found = {"top1": measured["top1"], "published": published, "passed": passed}
            metrics |= {f"{name}/{evaluation.name}/{key}": v for key, v in found.items()}
            percent = f"{100 * measured['top1']:>10.3f}{100 * published:>10.3f}"
            count = len(evaluation.reader.source)
            verdict = "pass" if passed else "FAIL"
            print(f"{evaluation.name:<10}{count:>10,}{percent}  {verdict}", flush=True)
        readers += [evaluation.reader for evaluation in evaluations]
    seconds = time.perf_counter() - began
    workdir.write_results(
        path,
        {
            "run": "verify_zoo",
            "protocol": protocol,
            "model": ",".join(configs),
            "dataset": ",".join(dict.fromkeys(reader.source.name for reader in readers)),
            "resolution": build.resolution(trained.card.image_size),
            "seed": config.seed,
            "batch_size": readers[0].batch_size,
            "seconds": seconds,
            "metrics": metrics,
            "device_days": seconds * trained.mesh.size / 86400,
            "precision": trained.precision,
        },
    )

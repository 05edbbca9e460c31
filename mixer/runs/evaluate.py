"""`config.run="evaluate"`: an earlier run's parameters on the config's evaluators."""

import time

import jax
from ml_collections import ConfigDict

from mixer.runs import build, workdir


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Evaluates `config.init_from` and writes results.json.

    Raises:
      BadInput: before anything is written.
    """
    path = workdir.unfinished(output, config)
    if path is None:
        return
    trained = build.trained(config)
    evaluations = build.evaluations(config, trained)
    workdir.begin(path, config)
    card = trained.card
    print(f"{card.model['name']} of {config.init_from}: {card.transform}")
    for evaluation in evaluations:
        with evaluation.reader.batches(0, 1) as batches:  # compiles, before the clock starts
            jax.block_until_ready(evaluation.update(trained.params, next(batches)))
    began, images, metrics = time.perf_counter(), 0, {}
    for evaluation in evaluations:
        reader, measured = evaluation.reader, evaluation.measure(trained.params)
        images += len(reader.source)
        metrics |= {f"{evaluation.name}/{name}": value for name, value in measured.items()}
        shown = "  ".join(f"{name} {value:.4f}" for name, value in measured.items())
        print(f"{evaluation.name} ({len(reader.source):,} images): {shown}", flush=True)
    seconds = time.perf_counter() - began
    workdir.write_results(
        path,
        {
            "run": "evaluate",
            "protocol": protocol,
            "model": card.model["name"],
            "dataset": evaluations[0].reader.source.name,
            "resolution": build.resolution(card.image_size),
            "seed": config.seed,
            "step": trained.step,
            "batch_size": evaluations[0].reader.batch_size,
            "seconds": seconds,
            "params": sum(x.size for x in jax.tree.leaves(trained.params)),
            "metrics": metrics,
            "upstream": trained.upstream,
            "images_per_second_per_device": images / seconds / trained.mesh.size,
            "device_days": seconds * trained.mesh.size / 86400,
            "precision": trained.precision,
        },
    )

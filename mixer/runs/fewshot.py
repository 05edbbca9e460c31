"""`config.run="fewshot"`: few-shot linear evaluation of an earlier run's features."""

from ml_collections import ConfigDict

from mixer.runs import build, evaluate, workdir


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Measures `config.init_from` and writes results.json; its metrics are `<dataset>/<k>shot`.

    Raises:
      BadInput: before anything is written.
    """
    path = workdir.unfinished(output, config)
    if path is None:
        return
    trained = build.trained(config)
    evaluate.measure(config, path, protocol, trained, {"": build.few_shot(config, trained)})

"""`config.run="fewshot"`: few-shot linear evaluation of an earlier run's features."""

from etils import epath
from ml_collections import ConfigDict

from mixer.runs import build, evaluate, workdir


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Measures `config.init_from`; the metrics are `fewshot/<dataset>/<k>shot`.

    Raises:
      BadInput: before anything is written.
    """
    trained = build.trained(config)
    evaluate.measure(config, path, protocol, trained, [build.few_shot(config, trained)])

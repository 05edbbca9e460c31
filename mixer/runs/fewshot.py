"""`config.run="fewshot"`: few-shot linear evaluation of a trained model's features."""

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.runs import evaluate, workdir
from mixer.runs.evaluations import Evaluation
from mixer.runs.fewshot_evaluation import build_few_shot
from mixer.runs.trained import Trained, load_trained


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Measures `config.init_from`; the metrics are `fewshot/<dataset>/<k>shot`.

    Raises:
      BadInput: before anything is written.
    """
    trained = load_trained(config)
    evaluate.measure(config, path, protocol, trained, [few_shot_of(config, trained)])


def few_shot_of(config: ConfigDict, trained: Trained) -> Evaluation:
    """Builds the config's few-shot evaluator for trained parameters.

    Raises:
      BadInput: there is none, or there are several.
    """
    names = [name for name in config.evaluators if config.evaluators[name].type == "fewshot"]
    if len(names) != 1:
        raise errors.BadInput(
            f"config.run=fewshot needs one evaluator of type fewshot, but there are {len(names)}: "
            f"use --config=configs/fewshot.py"
        )
    return build_few_shot(config, names[0], trained.model, trained.mesh, trained.card, None)

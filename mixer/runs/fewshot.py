"""`config.run="fewshot"`: few-shot or nearest-neighbour evaluation of a model's features."""

from etils import epath
from ml_collections import ConfigDict

from mixer import errors
from mixer.runs import evaluate, workdir
from mixer.runs.evaluations import Evaluation
from mixer.runs.fewshot_evaluation import build_few_shot
from mixer.runs.knn_evaluation import build_knn
from mixer.runs.trained import Trained, load_trained

_BUILDERS = {"fewshot": build_few_shot, "knn": build_knn}


@workdir.unless_complete
def run(config: ConfigDict, path: epath.Path, protocol: str) -> None:
    """Measures `config.init_from`; metrics: `fewshot/<dataset>/<k>shot` or `knn/<dataset>/<k>nn`.

    Raises:
      BadInput: before anything is written.
    """
    trained = load_trained(config)
    evaluate.measure(config, path, protocol, trained, [few_shot_of(config, trained)])


def few_shot_of(config: ConfigDict, trained: Trained) -> Evaluation:
    """Builds the config's evaluator of features for trained parameters.

    Raises:
      BadInput: there is none, or there are several.
    """
    types = {name: config.evaluators[name].type for name in config.evaluators}
    names = [name for name, kind in types.items() if kind in _BUILDERS]
    if len(names) != 1:
        raise errors.BadInput(
            f"config.run=fewshot needs one evaluator of type {' or '.join(_BUILDERS)}, but there "
            f"are {len(names)}: use --config=configs/fewshot.py"
        )
    build = _BUILDERS[types[names[0]]]
    return build(config, names[0], trained.model, trained.mesh, trained.card, None)

r"""Few-shot linear evaluation of a trained model: figures 2 (right) and 4, appendix A; or k-NN.

    python main.py --config=configs/fewshot.py --config.init_from=runs/imagenet21k-b16 \
      --workdir=runs/fewshot

The metrics in results.json are fewshot/<dataset>/<shots>shot. One dataset:
configs/fewshot.py:cifar100, or configs/fewshot.py:folder:PATH. Others:
--config.evaluators.fewshot.datasets="(('cifar100', 'train[:98%]', 'train[98%:]'),)". With
--config.evaluators.fewshot.optional=True, datasets that are not prepared are skipped. A weights
file needs its model and resolution: configs/fewshot.py:Mixer-B/16,224; with
--config.init_from=random that model stays untrained.

The paper leaves the protocol open, so there are two rules. `fixed`, big_vision's today: lambda is
1024, and accuracies are means over the seeds 0, 1 and 2 that draw the examples; ImageNet's are
drawn from the first 65,000. `ranked`, the code of 2021 and so most likely the paper's: the first
stored examples of each class, and for each number of shots the lambda in 2^-10 ... 2^19 with the
best mean rank, by test accuracy, over the datasets (`fewshot/l2/<shots>shot`).

With the word knn, configs/fewshot.py:knn,cifar100, the nearest training examples vote instead, as
DINO measures features: knn/<dataset>/<k>nn, by default of ImageNet, with all its training images.
--config.evaluators.knn.neighbors='(10, 20, 100, 200)' sets how many vote.

Hardware: the features take a forward pass over both splits. The regressions run on the host, in
float64. With ImageNet's 50,000 test images a draw takes about 10 s on 2 cores, and `fixed` makes 12
draws; `ranked` makes 30 predictions for each number of shots, which takes some 10 minutes.
"""

from configs import arguments, common
from mixer.data import sources
from mixer.evaluation import fewshot, knn


def get_config(words: str = "", run: str = "fewshot"):
    """Takes a dataset, a model, a resolution, `knn` and `smoke`."""
    choices = ("linear", "knn")
    args = arguments.parse(words, model="Mixer-B/16", dataset="", resolution=224, choices=choices)
    config = common.base(args, run)
    name, entry = ("knn", common.knn) if args.choice == "knn" else ("fewshot", common.fewshot)
    config.evaluators[name] = entry(config, _datasets(args.dataset, name), "10 epochs")
    if args.smoke:
        common.smoke(config).init_from = "random"
    return config


def _datasets(asked: str, by: str) -> tuple[tuple[str, str, str], ...]:
    if not asked:
        return ()
    known = {dataset[0]: dataset for rule in fewshot.RULES.values() for dataset in rule.datasets}
    if by == "knn":
        known |= {dataset[0]: dataset for dataset in knn.DATASETS}
    train, test = sources.split_to_train_on(asked), sources.split_to_measure(asked, asked)
    return (known.get(asked, (asked, train, test)),)

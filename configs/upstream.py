"""Picks the from-scratch recipe of a dataset, for recipes that vary a part of it."""

from collections.abc import Sequence

from configs import arguments, common, folder, imagenet, imagenet21k, jft
from mixer.data.transforms import before_crop
from mixer.evaluation import fewshot

_RECIPES = {"jft": jft, "imagenet2012": imagenet, "imagenet21k": imagenet21k}
# Accepted as words even if they are not prepared.
DATASETS = {name: name for name in _RECIPES}


def begin(words: str, run: str, *, model: str, choices: Sequence[str] = ()):
    """Parses the words and loads their dataset's recipe (default jft), with few-shot accuracy.

    Returns:
      The config and the `Arguments`.
    """
    args = arguments.parse(
        words,
        model=model,
        dataset="jft",
        resolution=224,
        datasets=DATASETS,
        choices=choices,
    )
    config = _recipe(args, run)
    _add_few_shot(config, args)
    return config, args


def _recipe(args: arguments.Arguments, run: str):
    """The config of jft, imagenet or imagenet21k for these datasets, else of configs/folder.py."""
    words = [args.model, str(args.resolution)]
    if args.dtype != "auto":
        words.append(args.dtype)
    if args.smoke:
        words.append("smoke")
    elif args.dataset not in _RECIPES:
        words.append(args.dataset)
    return _RECIPES.get(args.dataset, folder).get_config(",".join(words), run)


def _add_few_shot(config, args: arguments.Arguments) -> None:
    """For jft, adds an evaluator of linear few-shot accuracy on ImageNet, if that is prepared.

    After training on ImageNet or a folder, the accuracy on its own test images says more.
    """
    if args.dataset != "jft":
        return
    imagenet = tuple(d for d in fewshot.RULES["fixed"].datasets if d[0] == "imagenet2012")
    config.evaluators.fewshot = common.fewshot(config, imagenet, "10_000 steps")
    resized = f"resize({before_crop(args.resolution)})|central_crop"
    config.evaluators.fewshot.update(transform=resized, optional=True)
    if args.smoke:
        common.smoke(config)

r"""Figure 4: what a model learns when one permutation moves the pixels of all images.

    python main.py --config=configs/permutation.py:patches,Mixer-B/16 --workdir=runs/b16-patches

The first word is the figure's case: `original` (a), unchanged images; `patches` (b), the 16 x 16
patches shuffled, and the pixels within each patch shuffled, all patches in the same way; `pixels`
(c), all pixels of the image shuffled. The permutation is the same for all images, in training and
evaluation. The paper's models are Mixer-B/16 and BiT-R50x1, trained on JFT-300M (configs/jft.py,
which is the rest of this recipe), with linear 5-shot accuracy on ImageNet measured during training.
On other data, by their own recipe: configs/permutation.py:patches,imagenet2012 or folder:PATH. This
measures the accuracy on their own test images. The patch size is the model's, or 16 in a model
without patches. To set another:

    --config.input.transform='inception_crop|flip_lr|permute_patches(4)' \
    --config.evaluators.test.transform='resize|permute_patches(4)'

Expected (paper, figure 4; not run on JFT here): a Mixer's curves for (a) and (b) coincide, because
(b) only permutes the rows of its stem and token mixing. The ResNet's accuracy drops a lot with (b).
With (c) the Mixer's drops by about 45 %, the ResNet's by about 75 %. On CIFAR-10 with small models:
docs/reproduction.md.
"""

from configs import upstream

_CASES = {"original": "", "patches": "|permute_patches({})", "pixels": "|permute_pixels"}


def get_config(words: str = "", run: str = "train"):
    """Takes original, patches or pixels, a model, a dataset, a resolution and `smoke`."""
    config, args = upstream.begin(words, run, model="Mixer-B/16", choices=tuple(_CASES))
    moved = _CASES[args.choice].format(config.model.get("patch_size", 16))
    config.input.transform += moved
    for evaluator in config.evaluators.values():
        evaluator.transform += moved
    return config

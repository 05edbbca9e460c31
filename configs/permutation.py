r"""Figure 4: what a model learns when the pixels of all images are moved by one permutation.

    python main.py --config=configs/permutation.py:patches,Mixer-B/16 --workdir=runs/b16-patches

The first word is the figure's case: `original` (a), the images as they are; `patches` (b), the
16 x 16 patches in another order, and the pixels within each in another order, the same in all;
`pixels` (c), all pixels of the image in another order. A permutation is the same for all images, in
training and in tests. The paper's models are Mixer-B/16 and BiT-R50x1, trained on JFT-300M
(configs/jft.py, which is the rest of this recipe), with linear 5-shot accuracy on ImageNet as they
train. On other data: configs/permutation.py:patches,imagenet2012 or folder:PATH, by the recipe of
these; what is measured is then the accuracy on their own test images. `patches` are the model's, or
of 16 pixels in a model without patches:

    --config.input.transform='inception_crop|flip_lr|permute_patches(4)' \
    --config.evaluators.test.transform='resize|permute_patches(4)'

are others.

Expected (paper, figure 4; not run on JFT here): a Mixer's curves of (a) and (b) are one, for its
stem and its token mixing are to (b) what they were to (a), with their rows in another order. The
ResNet's accuracy falls a lot with (b). With (c) the Mixer's falls by about 45 %, the ResNet's by
about 75 %. On CIFAR-10 with small models: docs/reproduction.md.
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

r"""Appendix A: Mixers with other token mixing, trained by the recipe of their dataset.

    python main.py --config=configs/ablations.py:UntiedMixer-S/32 --workdir=runs/untied-s32

Models, in all sizes of table 1 (mixer/models/mixer_ablations.py):

    UntiedMixer-S/32   an MLP for each channel                          no gain
    GroupedMixer-S/32  on groups of 4 neighbouring channels             less than 1-2 % better
    ViewsMixer-S/32    on 4 learned views of each token                 3-4 % better, none if larger
    PyramidMixer-S/32  a quarter of the tokens in the second half       no gain
    Mixer-S/32         the Mixer itself

The paper trains on JFT-300M (configs/jft.py, which is the rest of this recipe) and measures linear
5-shot accuracy on ImageNet. The right column is its wording; it prints no numbers. Set G with
--config.model.groups=, the pyramid's depth with --config.model.stages=. On other data, by their own
recipe: configs/ablations.py:UntiedMixer-S/32,imagenet2012 or folder:PATH. On CIFAR-10 with small
models: docs/reproduction.md.

What did not help in fine-tuning (appendix A.2) are keys of configs/finetune.py: mixup
--config.mixup=0.1, averaged parameters --config.ema_decay=0.999, inception crops
--config.input.transform='inception_crop|flip_lr'.
"""

from configs import upstream


def get_config(words: str = "", run: str = "train"):
    """Takes a model, a dataset, a resolution and `smoke`."""
    config, _ = upstream.begin(words, run, model="UntiedMixer-S/32")
    return config

r"""Figure 2, right: how much a model gains from more data, at the same number of steps.

    python main.py --config=configs/data_scaling.py:3%,Mixer-B/32 --workdir=runs/b32-3
    python main.py --config=configs/fewshot.py:imagenet2012 --config.init_from=runs/b32-3 \
      --config.init_step=best --workdir=runs/b32-3-fewshot

The first word is the part of the training set: 3%, 10%, 30% or 100%. The paper's models are
Mixer-B/32, L/32, L/16, ViT-B/32, L/32, L/16 and BiT-R152x2, trained on JFT-300M (configs/jft.py,
which is the rest of this recipe). It measures linear 5-shot accuracy on ImageNet, of the checkpoint
that is best on held-out training images. Durations count epochs of the whole set, so the number of
steps does not change: the paper's 233, 70, 23 and 7 epochs.

On other data, by their own recipe: configs/data_scaling.py:3%,imagenet2012 or folder:PATH. This
measures the accuracy on their own test images.

Expected (paper, figure 2; not run on JFT here): on 3 %, Mixers are behind BiT and ViT; on 100 %
they have caught up, so they gain the most. On CIFAR-10 with small models: docs/reproduction.md.

What the paper leaves open is how the parts were drawn. Here a smaller part lies within a larger one
(`input.fraction_seed` draws others).
"""

from configs import upstream

_PARTS = {"100%": 1.0, "30%": 0.3, "10%": 0.1, "3%": 0.03}


def get_config(words: str = "", run: str = "train"):
    """Takes 3%, 10%, 30% or 100%, a model, a dataset, a resolution and `smoke`."""
    config, args = upstream.begin(words, run, model="Mixer-B/32", choices=tuple(_PARTS))
    config.input.fraction = _PARTS[args.choice]
    held_out = next((name for name in ("val", "minival") if name in config.evaluators), "")
    if held_out:
        config.best = f"{held_out}/top1"
    return config

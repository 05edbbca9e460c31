r"""Linear probe: how good are a model's features on a dataset? Trains only a new head on them.

    python main.py --config=configs/probe.py:Mixer-B/16,cifar10,224 --workdir=runs/probe
    python main.py --config=configs/probe.py:folder:PATH,Mixer-Ti/4,32 \
      --config.init_from=Mixer-Ti/4:cifar10 --workdir=runs/probe

Words, splits, resizing and the start of the trunk are those of configs/finetune.py: a published
ImageNet-21k file, or --config.init_from= with a name, file or workdir. The trunk stays as it is.
Each image goes through it once, without augmentation. On these features the head is the optimum of
a logistic regression, by L-BFGS: the protocol of Kornblith et al. (2019) and CLIP, without learning
rate, schedule or seed. The penalty is chosen on every fifth training image of each class, after
which the head is fitted to all; --config.probe.l2=10 sets it (1 / C of scikit-learn, on
standardised features).

The workdir is that of any training: mixer.load, predict and evaluate take it, and
configs/finetune.py continues from it with --config.init_from=runs/probe --config.init_head=keep,
which is LP-FT (Kumar et al. 2022).

Hardware: a forward pass over the training and test images, and their features in memory: 4 bytes
times width times images, 3.9 GB for ImageNet with Mixer-B/16. On 500 images a probe takes seconds.
"""

from configs import finetune


def get_config(words: str = "", run: str = "train"):
    """Takes a model, a dataset, a resolution and `smoke`."""
    config = finetune.get_config(words, run)
    config.input.transform = config.evaluators.test.transform
    config.probe.l2 = (0.1, 1.0, 10.0, 100.0, 1000.0)
    return config

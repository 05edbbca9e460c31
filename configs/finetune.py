r"""Fine-tuning on ImageNet-1k, CIFAR-10 and -100, Pets, Flowers, or your own data: tables 2 and 3.

    python main.py --config=configs/finetune.py:Mixer-B/16,cifar10,224 --workdir=runs/cifar10

starts from the model's published ImageNet-21k file if there is one (Mixer-B/16 and Mixer-L/16 have
one). To start from a name, file or workdir of your choice, set --config.init_from=. A workdir also
determines the architecture. The head is new. From scratch by the same recipe:
--config.init_from=random.

The learning rate of 0.03 is one of the four from which the paper chooses by accuracy on a part of
the training set; configs/sweep.py does that. To train once without that part, and measure it as
`dev`:

    --config.input.split='train[:98%]' --config.evaluators.dev.split='train[98%:]'

On a laptop or one small GPU, with some 1,000 images of your own:

    python main.py --config=configs/finetune.py:laptop,folder:PATH,Mixer-B/16,224 --workdir=runs/a

The word `laptop` replaces the paper's optimization: 20 epochs in batches of 64 (if they do not fit
into memory, --config.micro_batches=4), AdamW with layer-wise learning-rate decay, label smoothing,
stronger crops. Before that, configs/probe.py tells in one pass what the features are worth.

Data: the prepared TFDS datasets; a run without them prints the command that prepares them.

Expected (not run here), with the ImageNet-21k files: on ImageNet at 224, Mixer-B/16 80.64 % and
Mixer-L/16 82.89 % (paper, table 3); at 448, Mixer-L/16 84.15 % (table 2; 83.91 % if test images
keep their aspect ratio, table 3); on CIFAR-10 at 224, Mixer-B/16 96.82 % (vision_transformer's
README, with other crops). Batches of 512; steps and warm-up:

    imagenet2012       20,000  500
    cifar10, cifar100  10,000  500
    oxford_iiit_pet       500  100
    oxford_flowers102     500  100
    others              2,500  200  as for VTAB-1k; a tenth of `train` is `dev`

What the paper leaves open, and what is done here:
- Warm-up is big_vision's. Training images are resized to a square of 8/7 of the side (512 for 448,
  448 for 384), then cropped at random and flipped, as in BiT.
- Test images keep their aspect ratio at 224 and below, as in table 3. Above, as in table 2, and for
  BiT on ImageNet they become a square. Then the centre is cropped.
- Training on Flowers includes its validation split: the paper's "2k examples".
"""

from typing import NamedTuple

from configs import arguments, common
from mixer.data import sources
from mixer.data.transforms import before_crop
from mixer.models import registry

# A sweep's smoke test is four trainings.
_SMOKE_RESOLUTION = 64


class _Task(NamedTuple):
    """Splits and durations; `train` is the union of `part` and `dev`."""

    train: str
    part: str
    dev: str
    test: str
    steps: str
    warmup: str


def _task(share: int, test: str, steps: str, warmup: str) -> _Task:
    return _Task("train", f"train[:{share}%]", f"train[{share}%:]", test, steps, warmup)


_TASKS = {
    "imagenet2012": _task(99, "validation", "20_000 steps", "500 steps"),
    "cifar10": _task(98, "test", "10_000 steps", "500 steps"),
    "cifar100": _task(98, "test", "10_000 steps", "500 steps"),
    "oxford_iiit_pet": _task(90, "test", "500 steps", "100 steps"),
    "oxford_flowers102": _Task(
        "train+validation",
        "train+validation[:80%]",
        "validation[80%:]",
        "test",
        "500 steps",
        "100 steps",
    ),
}


def get_config(words: str = "", run: str = "train"):
    """Takes a model, a dataset, a resolution, paper or laptop, and `smoke`."""
    args = arguments.parse(
        words,
        model="Mixer-B/16",
        dataset="imagenet2012",
        resolution=0,
        choices=("paper", "laptop"),
    )
    args.resolution = size = args.resolution or (_SMOKE_RESOLUTION if args.smoke else 224)
    config = common.base(args, run)
    task = _TASKS.get(args.dataset) or _other(args.dataset)
    larger = before_crop(size)
    common.fine_tuning(config, steps=task.steps, warmup=task.warmup, rate=0.03)
    if "sweep" in config:
        grid = {"schedule.base": (0.003, 0.01, 0.03, 0.06)}
        config.sweep.update(train=task.part, dev=task.dev, grid=str(grid))
    config.input.split = task.train
    config.input.transform = f"resize({larger})|random_crop|flip_lr"
    if args.choice == "laptop":
        _for_a_laptop(config)
    square_on_imagenet = registry.traits(args.model).square_on_imagenet
    square = size > 224 or (args.dataset == "imagenet2012" and square_on_imagenet)
    resize = "resize" if square else "resize_small"
    transform = f"{resize}({larger})|central_crop"
    for name, split in {"test": task.test, "dev": ""}.items():
        config.evaluators[name] = common.evaluator(config, split, transform, config.total)
    if args.dataset == "imagenet2012":
        real = common.evaluator(config, task.test, transform, config.total, "multilabel")
        config.evaluators.real = real
        config.evaluators.real.update(dataset="real", optional=True)
    return common.smoke(config) if args.smoke else config


def _for_a_laptop(config) -> None:
    """Some 160 steps on 500 images, 310 on 1,000; the head learns faster than the blocks below."""
    config.input.transform = "inception_crop(area=(30, 100))|flip_lr"
    config.batch_size, config.total, config.label_smoothing = 64, "20 epochs", 0.1
    config.optimizer.update(name="adam", weight_decay=0.05, layer_decay=0.75)
    config.schedule.update(base=0.001, warmup="2 epochs")
    if "sweep" in config:
        config.sweep.grid = str({"schedule.base": (0.0001, 0.0003, 0.001, 0.003)})
    config.runtime.update(log_every="20 steps", checkpoint_every="2 epochs")


def _other(dataset: str) -> _Task:
    train = sources.split_to_train_on(dataset)
    if train != "train":  # the last tenth is the test part, the tenth before it `dev`
        return _Task(train, "train[:80%]", "train[80%:90%]", "auto", "2_500 steps", "200 steps")
    return _task(90, "auto", "2_500 steps", "200 steps")

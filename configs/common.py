"""The config keys of all runs, their meanings and defaults. Recipes override what differs.

A key's meaning is the comment above or beside it, which `--help` and config.run=show print. Keys
that only some runs have are in groups.py.
"""

import ast

from ml_collections import ConfigDict, config_dict

from configs import groups
from configs.arguments import Arguments
from mixer.models import registry
from mixer.weights import zoo


def base(arguments: Arguments, run: str = "train", model: str = "") -> ConfigDict:
    """The defaults for a model, dataset and resolution.

    Args:
      run: the run whose own keys are added to those of all runs.
      model: replaces the arguments' model.
    """
    model = model or arguments.model
    size = arguments.resolution
    config = ConfigDict()
    # train, or sweep, vtab, evaluate, predict, fewshot, convert, contact_sheet, input_benchmark,
    # throughput, reproduce, tables, figures, replay, prepare, plan, verify_zoo, doctor,
    # show; --help describes each
    config.run = run
    config.seed = 0  # for the initial weights, data order, augmentation and dropout
    config.imports = ""  # your own modules to import first, comma-separated
    # Weights to start from: a training workdir, a weights file, a Hugging Face folder or a
    # published name; "random" (in training also empty): an untrained model. verify_zoo:
    # comma-separated names; empty: all that have published accuracies.
    config.init_from = ""
    # Of a workdir: a step number, or best (by its config.best); empty: the newest.
    config.init_step = ""
    config.init_ema = False  # of a workdir: load its averaged parameters
    config.init_head = "auto"  # train: auto (keep it if its classes match), keep, reset (to zeros)
    config.pretrained_size = ()  # (height, width) a file was trained at; empty: inferred as square
    config.resize_method = "auto"  # to a new image_size: block_diagonal (by integers) or resample
    # digits, folder:PATH, another form that is read in place (docs/data.md), vtab:TASK or a TFDS
    # dataset
    config.dataset = arguments.dataset
    config.image_size = (size, size)  # height, width

    config.model = ConfigDict({"name": model})  # a registered model, and the fields of its family
    config.model.update(registry.model_fields(model))
    if "dtype" in config.model:
        config.model.dtype = arguments.dtype
    config.model.num_classes = config_dict.placeholder(int)  # empty: as many as the dataset has

    config.input = ConfigDict()
    # "auto" is train; for an image folder with neither test nor validation, the first 90 % of it.
    config.input.split = "train"
    # A file of class names for an image folder, for labels that are numbers, or for weights, in
    # label order: one per line, or a JSON list. Empty: the names in the data, of folders sorted as
    # text.
    config.input.class_names = ""
    # The image feature of a TFDS dataset, or the column, ending or array of data read in place;
    # empty: image, or another usual name.
    config.input.image_key = ""
    # The same for the label; empty: label, labels or real_label, or another usual name. Of a
    # manifest, or several with commas: columns of numbers.
    config.input.label_key = ""
    config.input.fraction = 1.0  # of the split to use; an epoch still counts the whole split
    config.input.fraction_seed = 0  # which part; with one seed, smaller parts are in larger ones
    # or "blocks(size=128, window=16, lanes=1)"; for Parquet "row_groups(window=4, lanes=1)"; see
    # docs/data.md
    config.input.shuffle = "full"
    # Data sets to mix in, ((DATASET, SPLIT, SHARE), ...); the rest is config.dataset's share.
    config.input.mixture = ()
    # How often each image is seen: examples (all equally often) or classes (each class equally
    # often).
    config.input.sampling = "examples"
    config.input.stage = ""  # a local folder to copy the needed shards to, once
    config.input.transform = "inception_crop|flip_lr"  # docs/recipes.md has a list
    config.input.fast_decode = False  # decode JPEGs at 1/2, 1/4 or 1/8 size where that is enough
    # How image files are decoded. tensorflow, as in the paper: ignore EXIF and transparency,
    # tolerate damage; upright: turn by EXIF, lay over white, refuse damage; auto: tensorflow for
    # TFDS's own datasets, else upright.
    config.input.decoding = "auto"
    config.input.max_pixels = 2**26  # an image with more pixels is an error
    config.input.max_aspect_ratio = 100.0  # an image more elongated than this is an error
    config.input.on_bad = "error"  # at an unreadable example: error, or skip (use the next one)
    config.batch_size = 4096  # over all devices
    config.micro_batches = 1  # parts that each batch is split into, to save memory
    config.total = "300 epochs"  # a duration: "N steps", "N epochs" or "N examples"

    config.probe = ConfigDict()  # a linear probe: trains only the head, on features computed once
    # The penalty, 1 / C of scikit-learn; of several, the one with the least nll on every fifth
    # image of each class. Empty: no probe, the whole model is trained, by steps.
    config.probe.l2 = ()
    config.loss = "softmax_xent"  # softmax_xent, soft_xent, sigmoid_xent or yours; of numbers: mse
    config.label_smoothing = 0.0  # share of the target that is spread evenly over all classes
    # Weights of the classes in the loss: balanced (by 1 / their number of images), or a number for
    # each class, with commas between them; empty: none. Their mean over the images is made 1.
    config.class_weights = ""
    # Distillation: the answers of a trained model for the same images are targets, too.
    config.distill = ConfigDict()
    # A workdir, a weights file, a Hub folder or a published name; empty: no teacher.
    config.distill.teacher = ""
    # Of a file of weights whose sizes are no registered model's: a model of its family.
    config.distill.model = ""
    config.distill.step = ""  # of its workdir, as init_step
    config.distill.ema = False  # of its workdir: use its averaged parameters
    config.distill.kind = "soft"  # soft: its probabilities, by KL; hard: its most likely class
    config.distill.weight = 0.5  # share of its loss in the whole; the labels' loss has the rest
    config.distill.temperature = 1.0  # soft: divides the logits of both models
    config.mixup = 0.0  # p of mixup's lambda ~ Beta(p, p), one per step; 0: none
    config.cutmix = 0.0  # p of CutMix's lambda ~ Beta(p, p), one box per step; 0: none
    config.mixup_switch_prob = 0.5  # with mixup and cutmix: the probability of CutMix, in each step
    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # with options: "adam(b2=0.95)", "sgd(momentum=0.9)"
    config.optimizer.weight_decay = 0.1  # times the learning rate; kernels only
    config.optimizer.clip_norm = 1.0  # maximum global norm of the gradient; 0: no clipping
    # Adaptive gradient clipping, per unit, before clip_norm; 0: none.
    config.optimizer.agc = registry.traits(model).agc
    config.optimizer.multipliers = ()  # (("regex", learning-rate multiplier), ...); 0 freezes
    # d: of L blocks, the i-th has d^(L + 1 - i) times the learning rate, the stem d^(L + 1) times,
    # the head all of it; times its multiplier. 1: the same rate for all layers.
    config.optimizer.layer_decay = 1.0
    # Sharpness-aware minimization: each step takes a second gradient, at a point of higher loss.
    config.sam = ConfigDict()
    config.sam.rho = 0.0  # how far up that point is, in all parameters together; 0: off
    # GSAM: rho when the learning rate has fallen to schedule.end; empty: rho stays the same.
    config.sam.rho_min = config_dict.placeholder(float)
    config.sam.alpha = 0.0  # GSAM: weight of the step against the surrogate gap; 0: SAM
    # How many updates in a row may be skipped because the gradient is NaN or infinite; one more
    # ends the run.
    config.skip_nonfinite = 0
    config.schedule = ConfigDict()
    config.schedule.base = 0.001  # the learning rate after warm-up
    config.schedule.decay = "linear"  # linear, cosine, exponential, rsqrt or constant
    # The final learning rate, absolute; not for rsqrt and constant.
    config.schedule.end = 0.00001
    # For rsqrt, which is base / sqrt(1 + t / timescale), t after warm-up.
    config.schedule.timescale = "10_000 steps"
    config.schedule.warmup = "10_000 steps"  # how long the learning rate rises from 0
    config.schedule.cooldown = "0 steps"  # linear decay of the learning rate to 0 at the end
    # Of averaged parameters, which are measured too; at step t at most (1 + t) / (10 + t). 0: none.
    config.ema_decay = 0.0

    config.evaluators = ConfigDict()  # what to measure, one entry each
    config.best = ""  # the metric whose best checkpoint is kept: "val/top1", or "val/nll" (lowest)
    # Early stopping: training ends once `best` has not improved in so many evaluations; 0: never.
    config.patience = 0
    # Where the metrics are shown, besides metrics.jsonl: tensorboard, wandb, trackio, mlflow, or a
    # writer of your own; comma-separated. A resumed run may change it.
    config.writers = "tensorboard"
    # Settings that do not affect the results, and so may change when a run is resumed.
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # of TFDS datasets; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets
    # Number of devices along the axis; -1: all that remain.
    config.runtime.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})
    config.runtime.strategy = "auto"  # of parameter sharding: auto, replicate, fsdp or tensor
    # Sharding rules tried before the strategy's: (("regex", "fsdp"), ("regex", (None, ...))).
    config.runtime.rules = ()
    config.runtime.scan = False  # run the blocks as a loop: compiles sooner, copies the parameters
    # Recompute activations to save memory: none, dots (all but matrix products) or full.
    config.runtime.remat = "none"
    config.runtime.threads = 0  # 0: one per core, at most 16; with workers: in each, 0: one
    config.runtime.workers = 0  # processes that read and transform images; 0: threads only
    config.runtime.log_every = "50 steps"  # how often to log to the console and metrics.jsonl
    config.runtime.checkpoint_every = "1000 steps"  # how often the state is saved
    config.runtime.keep_checkpoints = 2  # how many of the newest, besides the best
    config.runtime.profile = ""  # "11-20": a trace of these steps, into WORKDIR/profile
    groups.add(config, run)
    # Locked, so that a recipe that misspells a key fails. Evaluators may still be added.
    config.lock()
    config.evaluators.unlock()
    return config


def regularize(config: ConfigDict, stochastic_depth: float, *, own_rates: bool = False) -> None:
    """Sets stochastic depth, rising from 0 to this rate at the last branch, and turns dropout off.

    A family that drops all branches at one rate gets half of it, which is the mean. With
    `own_rates`, models that are registered with their papers' rates for ImageNet-1k keep them.
    """
    traits = registry.traits(config.model.name)
    if own_rates and (traits.zero_depth_is_meant or config.model.get("stochastic_depth")):
        return
    if "stochastic_depth" in config.model:
        share = 0.5 if traits.uniform_depth else 1.0
        config.model.stochastic_depth = share * stochastic_depth
    if "dropout" in config.model:
        config.model.dropout = 0.0


def fine_tuning(config: ConfigDict, *, steps: str, warmup: str, rate: float) -> None:
    """Sets what all of the paper's fine-tuning shares: section 3 and appendix C, with ViT's B.1.1.

    It starts from the model's published ImageNet-21k file if there is one. Otherwise
    `config.init_from` stays empty, which a run refuses as long as the head is to be reset.
    """
    published = f"{registry.known_as(config.model.name)}:imagenet21k"
    config.init_from = published if published in zoo.PUBLISHED else ""
    config.init_head = "reset"
    regularize(config, 0.0)
    config.batch_size = 512
    config.total = steps
    # big_vision's buffer is half as large: "sgd(momentum=0.9, accumulator_dtype='bfloat16')".
    config.optimizer.update(name="sgd(momentum=0.9)", weight_decay=0.0, clip_norm=1.0)
    config.schedule.update(base=rate, decay="cosine", end=0.0, warmup=warmup)


def evaluator(
    config: ConfigDict, split: str, transform: str, every: str, kind: str = "classification"
) -> ConfigDict:
    """An entry of `config.evaluators` that measures one split; off while `split` is empty.

    The split "auto" is test; for an image folder without one, validation; without either, the tenth
    of train that training holds out, or all images if the model was trained on another folder. See
    also `fewshot` and `knn`.
    """
    return ConfigDict(
        {
            "type": kind,  # classification, multilabel, regression, imagenet_a, imagenet_r
            "dataset": "",  # empty: the one trained on
            "split": split,  # empty: skip this evaluator; auto: test, or its substitute
            "transform": transform,  # applied to each image
            # Average the probabilities of these views of it: flip, five_crops or ten_crops.
            "views": "",
            "batch_size": min(config.batch_size, 1024),  # over all devices
            "every": every,  # how often to measure
            "optional": False,  # True: skip it, with a message, if the dataset is not prepared
        }
    ).lock()


def fewshot(config: ConfigDict, datasets: tuple[tuple[str, str, str], ...], every: str):
    """An entry of `config.evaluators`: linear regressions on the features of a few examples."""
    return ConfigDict(
        {
            "type": "fewshot",  # linear regressions on the features of a few examples
            "rule": "fixed",  # fixed (lambda 1024, three draws) or ranked (the rule of 2021)
            "shots": (1, 5, 10, 25),  # examples per class
            "datasets": datasets,  # ((name, training split, test split), ...); empty: the rule's
            "transform": "",  # empty: resize to 8/7 of the image size, central crop
            "batch_size": min(config.batch_size, 1024),  # over all devices
            "every": every,  # how often to measure
            "optional": False,  # True: skip the datasets that are not prepared
        }
    ).lock()


def knn(config: ConfigDict, datasets: tuple[tuple[str, str, str], ...], every: str):
    """An entry of `config.evaluators`: votes of the nearest training examples, by features."""
    return ConfigDict(
        {
            "type": "knn",  # a vote of the nearest training examples, by the features
            "neighbors": (10, 20),  # how many vote
            "temperature": 0.07,  # their weights are exp(cosine similarity / temperature)
            "datasets": datasets,  # ((name, training split, test split), ...); empty: ImageNet
            "transform": "",  # empty: resize to 8/7 of the image size, central crop
            "batch_size": min(config.batch_size, 1024),  # over all devices
            "every": every,  # how often to measure
            "optional": False,  # True: skip the datasets that are not prepared
        }
    ).lock()


# The entries that measure features on two splits of several datasets.
ON_FEATURES = {"fewshot": fewshot, "knn": knn}


def default_evaluator(config: ConfigDict, kind: str) -> ConfigDict:
    """An entry of this type with nothing set, to compare a recipe's entry with."""
    return (
        ON_FEATURES[kind](config, (), "") if kind in ON_FEATURES else evaluator(config, "", "", "")
    )


def smoke(config: ConfigDict) -> ConfigDict:
    """Cuts a recipe down to under a minute on a CPU: digits, two blocks, ten steps."""
    config.dataset = "digits"
    if config.init_head == "reset":
        config.init_from = "random"  # download nothing
    config.input.split = "train"
    if "sweep" in config and config.sweep.grid:
        fewer = {key: values[-2:] for key, values in ast.literal_eval(config.sweep.grid).items()}
        config.sweep.update(train="train[:-32]", dev="train[-32:]", grid=str(fewer), seeds=(0, 1))
    if "num_blocks" in config.model:  # per stage, in models that have stages
        config.model.num_blocks = 2 if isinstance(config.model.num_blocks, int) else (1, 1)
    config.batch_size = 8
    config.total = "10 steps"
    config.schedule.warmup = "2 steps"
    for entry in config.evaluators.values():
        entry.update(batch_size=8, every="5 steps")
        if entry.type in ON_FEATURES:
            # The training split has at least six examples of each digit.
            entry.update(datasets=(("digits", "train[:100]", "test[:32]"),))
            entry.update({"shots": (1, 5)} if entry.type == "fewshot" else {})
        else:
            entry.update(dataset="", split="test[:16]")
    config.runtime.log_every = "5 steps"
    config.runtime.checkpoint_every = "5 steps"
    return config

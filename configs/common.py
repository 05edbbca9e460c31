"""The keys of all runs, their meanings and defaults. The recipes set what differs.

A meaning is the comment above or beside its key: `--help` and config.run=show print it. The keys
that one run alone has are in groups.py.
"""

import ast

from ml_collections import ConfigDict, config_dict

from configs import groups
from configs.arguments import Arguments
from mixer.models import registry
from mixer.weights import zoo


def base(arguments: Arguments, run: str = "train", model: str = "") -> ConfigDict:
    """The defaults for a model, dataset and resolution; `model` in the place of the argument's.

    Args:
      run: the config has its keys besides those of all runs.
    """
    model = model or arguments.model
    size = arguments.resolution
    config = ConfigDict()
    # train, or sweep, vtab, evaluate, predict, fewshot, convert, contact_sheet, input_benchmark,
    # throughput, reproduce, tables, figures, replay, prepare, plan, verify_zoo, doctor,
    # show; --help has a line for each
    config.run = run
    config.seed = 0  # of the initial weights, the order, the augmentation, dropout
    config.imports = ""  # modules of yours to import first, comma-separated
    # Weights to start from: a training's workdir, a file, a folder of the Hub or a published name;
    # "random" (to train, empty) is an untrained model. verify_zoo: names, comma-separated; empty:
    # all with figures.
    config.init_from = ""
    config.init_step = (
        ""  # of a workdir; empty: the newest; or best (by its config.best), or a number
    )
    config.init_ema = False  # of a workdir: its averaged parameters
    config.init_head = "auto"  # train: auto keeps one of these classes; keep; reset: to zeros
    config.pretrained_size = ()  # (height, width) that a file's weights are for; empty: the square
    config.resize_method = "auto"  # to another image_size: block_diagonal (if integer) or resample
    config.dataset = arguments.dataset  # digits, folder:PATH, vtab:TASK or the name of one of TFDS
    config.image_size = (size, size)  # height, width

    config.model = ConfigDict({"name": model})  # a registered model, and the fields of its family
    config.model.update(registry.model_fields(model))
    config.model.num_classes = config_dict.placeholder(int)  # empty: as many as the dataset has

    config.input = ConfigDict()
    # "auto" is train or, of a folder of images without test and validation, nine tenths of it.
    config.input.split = "train"
    # A file with the classes of a folder of images, or of weights, in their order: a name a line,
    # or a JSON list. Empty: the folder's names, sorted as text.
    config.input.class_names = ""
    config.input.image_key = ""  # the feature of a TFDS dataset that is the image; empty: image
    # The feature that is the label; empty: label, labels or real_label.
    config.input.label_key = ""
    config.input.fraction = 1.0  # of the split; durations keep counting the whole split's epochs
    config.input.fraction_seed = 0  # which part; with one seed smaller parts lie within larger ones
    config.input.shuffle = "full"  # or "blocks(size=128, window=16, lanes=1)", see docs/data.md
    config.input.stage = ""  # a local folder: the shards needed are copied there once
    config.input.transform = "inception_crop|flip_lr"  # see mixer/data/transforms.py
    config.input.fast_decode = False  # JPEGs at 1/2, 1/4, 1/8 of their size where that is enough
    # Of files: tensorflow, as the paper's were: EXIF and transparency ignored, damage passed over;
    # upright: turned, on white, damage an error; auto: TFDS's own datasets as tensorflow.
    config.input.decoding = "auto"
    config.input.max_pixels = 2**26  # more pixels than this are an error
    config.input.max_aspect_ratio = 100.0  # a side of more than this times the other is one too
    config.input.on_bad = "error"  # at an unreadable example; "skip": the next one stands in
    config.batch_size = 4096  # of all devices together
    config.micro_batches = 1  # into which it is split, to need less memory
    config.total = "300 epochs"  # durations: "N steps", "N epochs" or "N examples"

    config.loss = "softmax_xent"  # or sigmoid_xent
    config.label_smoothing = 0.0  # the share of the target that all classes get alike
    config.mixup = 0.0  # p of lambda ~ Beta(p, p); 0: none
    config.optimizer = ConfigDict()
    config.optimizer.name = "adam"  # with options: "adam(b2=0.95)", "sgd(momentum=0.9)"
    config.optimizer.weight_decay = 0.1  # times the rate; kernels only
    config.optimizer.clip_norm = 1.0  # global norm of the gradient; 0: no clipping
    # Adaptive clipping, unit by unit, before clip_norm's; 0: none.
    config.optimizer.agc = registry.traits(model).agc
    config.optimizer.multipliers = ()  # (("regex", rate multiplier), ...); 0 freezes
    # How many updates in a row may be left out because their gradient is NaN or infinite; one more
    # ends the run.
    config.skip_nonfinite = 0
    config.schedule = ConfigDict()
    config.schedule.base = 0.001  # the learning rate after warm-up
    config.schedule.decay = "linear"  # or cosine, constant
    config.schedule.end = 0.00001  # the rate at the end, absolute
    config.schedule.warmup = "10_000 steps"  # in which the rate rises from 0
    config.schedule.cooldown = "0 steps"  # the rate's linear way to 0 at the end of `total`
    config.ema_decay = 0.0  # of averaged parameters, evaluated beside the raw ones; 0: none

    config.evaluators = ConfigDict()  # what is measured, an entry each
    config.best = ""  # the metric whose best checkpoint is kept, such as "val/top1"
    # What leaves the numbers alone, and so may change when a run goes on.
    config.runtime = ConfigDict()
    config.runtime.data_dir = ""  # of TFDS datasets; empty: $TFDS_DATA_DIR or ~/tensorflow_datasets
    config.runtime.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # devices; -1: the rest
    config.runtime.strategy = "replicate"  # of the parameters; or fsdp, tensor
    config.runtime.rules = ()  # before the strategy's: (("regex", "fsdp"), ("regex", (None, ...)))
    config.runtime.scan = False  # the blocks as one loop: compiles sooner, copies the parameters
    config.runtime.remat = "none"  # what is computed twice to save memory; or dots, full
    config.runtime.threads = 0  # 0: one a core, 16 at most; with workers, in each, 0: one
    config.runtime.workers = 0  # processes that read and transform images; 0: threads only
    config.runtime.log_every = "50 steps"  # a line on the console and in metrics.jsonl
    config.runtime.checkpoint_every = "1000 steps"  # how often the state is saved
    config.runtime.keep_checkpoints = 2  # the newest, besides the best
    config.runtime.profile = ""  # "11-20": a trace of these steps, into WORKDIR/profile
    groups.add(config, run)
    # These are all keys there are: a recipe that misspells one is refused. Evaluators are added.
    config.lock()
    config.evaluators.unlock()
    return config


def regularize(config: ConfigDict, stochastic_depth: float, *, own_rates: bool = False) -> None:
    """Sets the drop probability of the last branch, to which it rises from 0, and no dropout.

    A family that drops all its branches alike takes half of it, which is its mean. With `own_rates`
    models that are registered with rates, their papers' for ImageNet-1k, keep them.
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

    It begins from the model's published ImageNet-21k file, where there is one; else
    `config.init_from` is left empty, which a run refuses as long as the head is to be reset.
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
    """An entry of `config.evaluators`: a measure of one split, or none while `split` is empty.

    The split "auto" is test; of a folder of images without it, validation; of one without either
    the tenth of train that training holds out, or all images if another folder was trained on. See
    also `fewshot`.
    """
    return ConfigDict(
        {
            "type": kind,  # classification, multilabel, imagenet_a, imagenet_r
            "dataset": "",  # empty: the one trained on
            "split": split,  # empty: it is left out; auto: test, or what stands for it
            "transform": transform,  # of each image, before it is measured
            "batch_size": min(config.batch_size, 1024),  # of all devices together
            "every": every,  # how much training lies between two measurements
            "optional": False,  # True: left out, and said, where the dataset is not prepared
        }
    ).lock()


def fewshot(config: ConfigDict, datasets: tuple[tuple[str, str, str], ...], every: str):
    """An entry of `config.evaluators`: linear regressions on the features of a few examples."""
    return ConfigDict(
        {
            "type": "fewshot",  # linear regressions on the features of a few examples
            "rule": "fixed",  # lambda 1024, three draws; or ranked: that of 2021
            "shots": (1, 5, 10, 25),  # examples a class
            "datasets": datasets,  # ((name, training split, test split), ...); empty: the rule's
            "transform": "",  # empty: resize to 8/7 of the image size, central crop
            "batch_size": min(config.batch_size, 1024),  # of all devices together
            "every": every,  # how much training lies between two measurements
            "optional": False,  # True: without those datasets that are not prepared
        }
    ).lock()


def default_evaluator(config: ConfigDict, kind: str) -> ConfigDict:
    """An entry of this type with nothing set: what a recipe's entry is held against."""
    return fewshot(config, (), "") if kind == "fewshot" else evaluator(config, "", "", "")


def smoke(config: ConfigDict) -> ConfigDict:
    """The same recipe in under a minute on a CPU: digits, two blocks, ten steps."""
    config.dataset = "digits"
    if config.init_head == "reset":
        config.init_from = "random"  # nothing is fetched
    config.input.split = "train"
    if "sweep" in config and config.sweep.grid:
        fewer = {key: values[-2:] for key, values in ast.literal_eval(config.sweep.grid).items()}
        config.sweep.update(train="train[:-32]", dev="train[-32:]", grid=str(fewer), seeds=(0, 1))
    if "num_blocks" in config.model:  # of each stage, in models that have such
        config.model.num_blocks = 2 if isinstance(config.model.num_blocks, int) else (1, 1)
    config.batch_size = 8
    config.total = "10 steps"
    config.schedule.warmup = "2 steps"
    for entry in config.evaluators.values():
        entry.update(batch_size=8, every="5 steps")
        if entry.type == "fewshot":
            # Six of each digit and more.
            entry.update(datasets=(("digits", "train[:100]", "test[:32]"),), shots=(1, 5))
        else:
            entry.update(dataset="", split="test[:16]")
    config.runtime.log_every = "5 steps"
    config.runtime.checkpoint_every = "5 steps"
    return config

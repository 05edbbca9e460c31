"""Every key, its meaning and its default. The recipes set what differs.

A meaning is the comment above or beside its key: `--help` and config.run=show print it.
"""

import ast

from ml_collections import ConfigDict, config_dict

from configs.arguments import Arguments
from mixer.checkpoint import zoo
from mixer.models import registry


def base(arguments: Arguments, model: str = "") -> ConfigDict:
    """The defaults for a model, dataset and resolution; `model` in the place of the argument's."""
    model = model or arguments.model
    size = arguments.resolution
    config = ConfigDict()
    # train, or sweep, vtab, evaluate, predict, fewshot, convert, contact_sheet, input_benchmark,
    # throughput, reproduce, tables, figures, replay, prepare, plan, verify_zoo, doctor,
    # show; --help has a line for each
    config.run = "train"
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
    config.convert_to = ""  # convert: OUT.npz, OUT.safetensors or FOLDER/ (with the slash)
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
    config.images = ""  # predict: files, folders and globs (** too), comma-separated
    config.sheet = 36  # contact_sheet: how many images
    config.benchmark = ConfigDict()  # input_benchmark: how fast images are read
    config.benchmark.images = 2000  # in each measurement
    config.benchmark.batch_size = 64  # that the images are read in
    config.benchmark.rounds = 3  # in which all measurements take turns
    config.benchmark.demand = 500.0  # images/s that each device is to get
    config.benchmark.tf_data = False  # also the same recipe in tf.data, as a reference

    config.throughput = ConfigDict()  # throughput: images/s of models on these devices
    config.throughput.models = ()  # names; empty: config.model
    config.throughput.resolutions = ()  # pixels; empty: config.image_size
    config.throughput.training = True  # also of a training step
    config.throughput.calls = 30  # that are measured of each batch size
    config.throughput.patience = 10.0  # seconds for a batch size; one call over it is the last
    config.throughput.largest_batch = 2**14  # of all devices; it is doubled from 1 on each

    config.sweep = ConfigDict()  # sweep: chooses values of keys by accuracy on images held out
    # The values to choose from, in all combinations: "{'schedule.base': (0.003, 0.01), ...}".
    config.sweep.grid = ""
    config.sweep.train = ""  # the split trained on while choosing; then it is input.split
    config.sweep.dev = ""  # the split that the evaluator `dev` then measures
    config.sweep.retrain = True  # on input.split with the best values; False: stay with sweep.train
    config.sweep.seeds = (0, 1, 2)  # of the trainings whose test accuracy counts
    config.sweep.machine = 0  # which of `machines` this is, from 0; they take turns
    config.sweep.machines = 1  # that see the workdir, and share the trainings
    config.vtab = ConfigDict()  # vtab: a sweep for each task
    config.vtab.tasks = ()  # empty: all 19
    config.vtab.resolution = 0  # of all tasks; 0: 224 for images below 96 x 96 pixels, else 448
    config.vtab.with_96 = False  # 224 also for images of 96 x 96

    config.reproduce = ConfigDict()  # reproduce: the runs behind rows of the paper's tables
    config.reproduce.rows = ()  # see configs/paper.py
    config.reproduce.smoke = False  # each run as its recipe's smoke test
    config.reproduce.list = False  # print the runs, their commands and cost; do nothing
    config.reproduce.accelerators = ("v3-8", "v5e-16", "H100")  # that the cost is told for
    config.reproduce.share = 0.4  # of their peak FLOP/s that training reaches
    config.reproduce.machine = 0  # which of `machines` this is, from 0; they take turns
    config.reproduce.machines = 1  # that see the workdir, and share the runs
    config.tables = ConfigDict()  # tables: the paper's, filled from results.json
    config.tables.workdirs = ""  # paths and globs, comma-separated
    config.figures = ConfigDict()  # figures: 2 to 7, from tables.workdirs and init_from
    config.figures.which = ()  # figure2_left, figure2_right, figure3 ... figure7; empty: all it can

    config.replay = ConfigDict()  # replay: steps of the training in init_from, drawn again
    config.replay.steps = ""  # such as "812, 900-905"; N is the step of that line in metrics.jsonl
    config.replay.rows = 36  # of each batch, those of the highest loss, in its contact sheet
    config.replay.exact = False  # do the updates from the checkpoint before again: the run's losses
    config.replay.examples = ""  # indices or file names, comma-separated: when were they seen?

    config.plan = ConfigDict()  # plan: what a step needs, on devices that need not be there
    config.plan.topology = ""  # chips of a TPU slice, as v3:4x4; empty: this machine's devices

    config.prepare = ConfigDict()  # prepare: a dataset in TFDS layout, see docs/prepare.md
    config.prepare.source = ""  # imagenet:PATH, folder:PATH, tar:PATHS or manifest:FILE
    config.prepare.name = ""  # NAME or NAME:VERSION; empty: imagenet2012, or config.dataset
    config.prepare.split = "train"  # of images for which the source names none
    config.prepare.shard_size = 256  # MB, about
    config.prepare.processes = 0  # that write shards; 0: one a core
    config.prepare.dedup_against = ""  # DATASET:SPLIT,...: drop training images that are in there

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


def smoke(config: ConfigDict) -> ConfigDict:
    """The same recipe in under a minute on a CPU: digits, two blocks, ten steps."""
    config.dataset = "digits"
    if config.init_head == "reset":
        config.init_from = "random"  # nothing is fetched
    config.input.split = "train"
    if config.sweep.grid:
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

"""The keys of single runs: a config has a run's keys only when that run is asked for.

As in common.py, a meaning is the comment above or beside its key.
"""

from ml_collections import ConfigDict


def images(config: ConfigDict) -> None:
    config.images = ""  # predict: files, folders and globs (** too), comma-separated


def sheet(config: ConfigDict) -> None:
    config.sheet = 36  # contact_sheet: how many images


def convert_to(config: ConfigDict) -> None:
    config.convert_to = ""  # convert: OUT.npz, OUT.safetensors or FOLDER/ (with the slash)


def benchmark(config: ConfigDict) -> None:
    config.benchmark = ConfigDict()  # input_benchmark: how fast images are read
    config.benchmark.images = 2000  # in each measurement
    config.benchmark.batch_size = 64  # that the images are read in
    config.benchmark.rounds = 3  # in which all measurements take turns
    config.benchmark.demand = 500.0  # images/s that each device is to get
    config.benchmark.tf_data = False  # also the same recipe in tf.data, as a reference


def throughput(config: ConfigDict) -> None:
    config.throughput = ConfigDict()  # throughput: images/s of models on these devices
    config.throughput.models = ()  # names; empty: config.model
    config.throughput.resolutions = ()  # pixels; empty: config.image_size
    config.throughput.training = True  # also of a training step
    config.throughput.calls = 30  # that are measured of each batch size
    config.throughput.patience = 10.0  # seconds for a batch size; one call over it is the last
    config.throughput.largest_batch = 2**14  # of all devices; it is doubled from 1 on each


def sweep(config: ConfigDict) -> None:
    config.sweep = ConfigDict()  # sweep: chooses values of keys by accuracy on images held out
    # The values to choose from, in all combinations: "{'schedule.base': (0.003, 0.01), ...}".
    config.sweep.grid = ""
    config.sweep.train = ""  # the split trained on while choosing; then it is input.split
    config.sweep.dev = ""  # the split that the evaluator `dev` then measures
    config.sweep.retrain = True  # on input.split with the best values; False: stay with sweep.train
    config.sweep.seeds = (0, 1, 2)  # of the trainings whose test accuracy counts
    config.sweep.machine = 0  # which of `machines` this is, from 0; they take turns
    config.sweep.machines = 1  # that see the workdir, and share the trainings


def vtab(config: ConfigDict) -> None:
    config.vtab = ConfigDict()  # vtab: a sweep for each task
    config.vtab.tasks = ()  # empty: all 19
    config.vtab.resolution = 0  # of all tasks; 0: 224 for images below 96 x 96 pixels, else 448
    config.vtab.with_96 = False  # 224 also for images of 96 x 96


def reproduce(config: ConfigDict) -> None:
    config.reproduce = ConfigDict()  # reproduce: the runs behind rows of the paper's tables
    config.reproduce.rows = ()  # see configs/paper.py
    config.reproduce.smoke = False  # each run as its recipe's smoke test
    config.reproduce.list = False  # print the runs, their commands and cost; do nothing
    config.reproduce.accelerators = ("v3-8", "v5e-16", "H100")  # that the cost is told for
    config.reproduce.share = 0.4  # of their peak FLOP/s that training reaches
    config.reproduce.machine = 0  # which of `machines` this is, from 0; they take turns
    config.reproduce.machines = 1  # that see the workdir, and share the runs


def tables(config: ConfigDict) -> None:
    config.tables = ConfigDict()  # tables: the paper's, filled from results.json
    config.tables.workdirs = ""  # paths and globs, comma-separated


def figures(config: ConfigDict) -> None:
    config.figures = ConfigDict()  # figures: 2 to 7, from tables.workdirs and init_from
    config.figures.which = ()  # figure2_left, figure2_right, figure3 ... figure7; empty: all it can


def replay(config: ConfigDict) -> None:
    config.replay = ConfigDict()  # replay: steps of the training in init_from, drawn again
    config.replay.steps = ""  # such as "812, 900-905"; N is the step of that line in metrics.jsonl
    config.replay.rows = 36  # of each batch, those of the highest loss, in its contact sheet
    config.replay.exact = False  # do the updates from the checkpoint before again: the run's losses
    config.replay.examples = ""  # indices or file names, comma-separated: when were they seen?


def plan(config: ConfigDict) -> None:
    config.plan = ConfigDict()  # plan: what a step needs, on devices that need not be there
    config.plan.topology = ""  # chips of a TPU slice, as v3:4x4; empty: this machine's devices


def prepare(config: ConfigDict) -> None:
    config.prepare = ConfigDict()  # prepare: a dataset in TFDS layout, see docs/prepare.md
    config.prepare.source = ""  # imagenet:PATH, folder:PATH, tar:PATHS or manifest:FILE
    config.prepare.name = ""  # NAME or NAME:VERSION; empty: imagenet2012, or config.dataset
    config.prepare.split = "train"  # of images for which the source names none
    config.prepare.shard_size = 256  # MB, about
    config.prepare.processes = 0  # that write shards; 0: one a core
    config.prepare.dedup_against = ""  # DATASET:SPLIT,...: drop training images that are in there


# What each run has besides the keys that all share; each function adds the key of its name.
OF_RUN = {
    "predict": (images,),
    "contact_sheet": (sheet,),
    "convert": (convert_to,),
    "input_benchmark": (benchmark,),
    "throughput": (throughput,),
    "sweep": (sweep,),
    "vtab": (sweep, vtab),
    "reproduce": (reproduce,),
    "tables": (tables,),
    "figures": (tables, figures),
    "replay": (replay,),
    "plan": (plan,),
    "prepare": (prepare,),
}
EVERY = dict.fromkeys(group for groups in OF_RUN.values() for group in groups)
ALL = "show"  # the run that shows the keys of every run


def add(config: ConfigDict, run: str) -> None:
    """Adds the keys of a run, if the config does not have them yet."""
    with config.unlocked():
        for group in EVERY if run == ALL else OF_RUN.get(run, ()):
            if group.__name__ not in config:
                group(config)


def runs_with(key: str) -> list[str]:
    """The runs to which a key "a.b" belongs alone; none where all runs may have it."""
    name = key.partition(".")[0]
    return [run for run, groups in OF_RUN.items() if name in (g.__name__ for g in groups)]

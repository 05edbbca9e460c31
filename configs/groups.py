"""Config keys that only some runs have, such as `sweep.grid`; a config has its own run's only.

As in common.py, a key's meaning is the comment above or beside it.
"""

from ml_collections import ConfigDict


def images(config: ConfigDict) -> None:
    # predict: files, folders, globs (also **) and lists of these (@FILE, FILE.txt), comma-separated
    config.images = ""


def predict(config: ConfigDict) -> None:
    config.predict = ConfigDict()  # predict: what is said of each image
    config.predict.top = 5  # how many classes, the most likely first
    config.predict.views = ""  # average over these views of it: flip, five_crops or ten_crops
    # npz or parquet: instead of classes, the features below the head, to embeddings.npz or .parquet
    config.predict.embeddings = ""


def sheet(config: ConfigDict) -> None:
    config.sheet = 36  # contact_sheet: how many images


def convert_to(config: ConfigDict) -> None:
    # convert: OUT.npz, OUT.safetensors, FOLDER/ (with the slash), or a program: OUT.stablehlo,
    # OUT.onnx, OUT.tflite or FOLDER/saved_model/
    config.convert_to = ""


def push(config: ConfigDict) -> None:
    # convert to FOLDER/: also upload it to ORG/NAME[@BRANCH] of the Hugging Face Hub; a new
    # repository is private
    config.push = ""


def license(config: ConfigDict) -> None:
    config.license = ""  # convert to FOLDER/: the licence on its page, such as apache-2.0


def soup(config: ConfigDict) -> None:
    # convert: the average of several workdirs in init_from, "a,b" or a pattern: uniform, or greedy
    # (from the best to the worst by config.best, each unless that gets worse)
    config.soup = ""


def benchmark(config: ConfigDict) -> None:
    config.benchmark = ConfigDict()  # input_benchmark: how fast images are read
    config.benchmark.images = 2000  # per measurement
    config.benchmark.batch_size = 64  # images per batch
    config.benchmark.rounds = 3  # how often each measurement is taken, in turn with the others
    config.benchmark.demand = 500.0  # images/s that each device needs
    config.benchmark.tf_data = False  # also measure the same recipe in tf.data, for comparison
    config.benchmark.grain = False  # also measure the same recipe in Grain's own API


def throughput(config: ConfigDict) -> None:
    config.throughput = ConfigDict()  # throughput: images/s of models on these devices
    config.throughput.models = ()  # names; empty: config.model
    config.throughput.resolutions = ()  # pixels; empty: config.image_size
    config.throughput.training = True  # also measure training steps
    config.throughput.calls = 30  # measured calls per batch size
    # Seconds per batch size. A batch size whose median call takes longer is the last.
    config.throughput.patience = 10.0
    config.throughput.largest_batch = 2**14  # over all devices; doubled from 1 per device


def sweep(config: ConfigDict) -> None:
    config.sweep = ConfigDict()  # sweep: chooses values of keys on held-out images
    # The values to try, in all combinations: "{'schedule.base': (0.003, 0.01), ...}". If this,
    # train and dev are empty, nothing is chosen: one training for each of the seeds.
    config.sweep.grid = ""
    config.sweep.train = ""  # training split while choosing; afterwards it is input.split
    config.sweep.dev = ""  # held-out split while choosing, measured by the evaluator `dev`
    config.sweep.retrain = True  # final trainings on input.split; False: on sweep.train
    config.sweep.seeds = (0, 1, 2)  # of the final trainings, whose test accuracy is reported
    config.sweep.machine = 0  # index of this machine, from 0; they take the trainings in turn
    config.sweep.machines = 1  # how many machines share the workdir and the trainings


def vtab(config: ConfigDict) -> None:
    config.vtab = ConfigDict()  # vtab: a sweep for each task
    config.vtab.tasks = ()  # empty: all 19
    config.vtab.resolution = 0  # for all tasks; 0: 224 for images below 96 x 96 pixels, else 448
    config.vtab.with_96 = False  # use 224 for images of 96 x 96, too


def reproduce(config: ConfigDict) -> None:
    config.reproduce = ConfigDict()  # reproduce: the runs behind rows of the paper's tables
    config.reproduce.rows = ()  # see configs/paper.py
    config.reproduce.smoke = False  # run each recipe's smoke test instead
    config.reproduce.list = False  # only print the runs, their commands and cost
    config.reproduce.accelerators = ("v3-8", "v5e-16", "H100")  # to estimate the cost for
    config.reproduce.prices = ()  # of a device-hour of each, to list the cost
    config.reproduce.machine = 0  # index of this machine, from 0; they take the runs in turn
    config.reproduce.machines = 1  # how many machines share the workdir and the runs


def tables(config: ConfigDict) -> None:
    config.tables = ConfigDict()  # tables: the paper's, filled from results.json
    config.tables.workdirs = ""  # paths and globs, comma-separated


def figures(config: ConfigDict) -> None:
    config.figures = ConfigDict()  # figures: 2 to 7, from tables.workdirs and init_from
    config.figures.which = ()  # figure2_left, figure2_right, figure3 ... figure7; empty: all it can


def replay(config: ConfigDict) -> None:
    config.replay = ConfigDict()  # replay: redraws training batches of the run in init_from
    config.replay.steps = ""  # such as "812, 900-905", numbered as in metrics.jsonl
    config.replay.rows = 36  # rows of each batch in its contact sheet, highest loss first
    config.replay.exact = False  # repeat the updates since the last checkpoint, for exact losses
    config.replay.examples = ""  # indices or file names, comma-separated: list when each was seen


def plan(config: ConfigDict) -> None:
    config.plan = ConfigDict()  # plan: what a step needs, also on devices you do not have
    config.plan.topology = ""  # a TPU slice: v5litepod-16 or v3:4x4; empty: this machine's devices
    config.plan.slices = 1  # so many of them, joined by the data centre's network
    config.plan.price = 0.0  # of a device-hour, to print the cost of the whole training


def prepare(config: ConfigDict) -> None:
    config.prepare = ConfigDict()  # prepare: writes a dataset in TFDS layout, see docs/prepare.md
    # imagenet:PATH, tar:PATHS, folder:PATH, or another form that is read in place (docs/data.md)
    config.prepare.source = ""
    config.prepare.name = ""  # NAME or NAME:VERSION; empty: imagenet2012, or config.dataset
    config.prepare.split = "train"  # for images to which the source assigns none
    config.prepare.shard_size = 256  # approximately, in MB
    config.prepare.processes = 0  # processes that write shards; 0: one per core
    config.prepare.dedup_against = ""  # DATASET:SPLIT,...: drop training images found in these


# The key groups that each run adds to those of all runs; a function adds the group of its name.
OF_RUN = {
    "predict": (images, predict),
    "contact_sheet": (sheet,),
    "convert": (convert_to, push, license, soup),
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
ALL = "show"  # the run that shows every run's keys


def add(config: ConfigDict, run: str) -> None:
    """Adds the keys of a run that the config does not have yet."""
    with config.unlocked():
        for group in EVERY if run == ALL else OF_RUN.get(run, ()):
            if group.__name__ not in config:
                group(config)


def runs_with(key: str) -> list[str]:
    """The only runs that have a key "a.b"; empty if all runs have it."""
    name = key.partition(".")[0]
    return [run for run, groups in OF_RUN.items() if name in (g.__name__ for g in groups)]

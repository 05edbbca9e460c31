r"""Fine-tuning with a choice of the learning rate: the protocol behind tables 2 and 3.

    python main.py --config=configs/sweep.py:Mixer-B/16,cifar10,224 --workdir=runs/sweep-cifar10

Trains configs/finetune.py with each of four learning rates on the training set without `dev`,
chooses by the accuracy on `dev` (if equal, the smaller rate), and trains with that rate on the
whole set, with the seeds 0, 1 and 2. results.json has the mean over the seeds, `test/top1`, and the
sample standard deviation, `test/top1_std`. With --config.sweep.retrain=False the result is that of
training without `dev`, as in the released code. --config.best=dev/nll chooses by another metric.

Other keys can be varied too, in all combinations:

    --config.sweep.grid="{'schedule.base': (0.01, 0.03), 'total': ('500 steps', '1000 steps')}"

With --config.run=sweep, a recipe without a grid, such as configs/folder.py, is trained once with
each of the seeds.

Each training is a separate run in WORKDIR/trials. Complete ones are not repeated, and the choice is
saved in WORKDIR/choice.json before anything is trained with it. On n machines that share the
workdir, give each --config.sweep.machines=n and its index from 0, --config.sweep.machine. A machine
that has to wait for the others says so and exits; start it again when they are done.

Expected: the accuracies in configs/finetune.py; the cost is seven trainings.
"""

from configs import finetune


def get_config(words: str = "", run: str = "sweep"):
    """Takes a model, a dataset, a resolution and `smoke`."""
    return finetune.get_config(words, run)

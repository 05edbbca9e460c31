r"""Fine-tuning with the learning rate chosen: the protocol behind tables 2 and 3.

    python main.py --config=configs/sweep.py:Mixer-B/16,cifar10,224 --workdir=runs/sweep-cifar10

Trains configs/finetune.py with each of four rates on the training set without `dev`, chooses by the
accuracy on `dev` (the smaller of equal ones), and trains with that rate on the whole set, with the
seeds 0, 1 and 2. results.json has the mean over the seeds, `test/top1`, and the sample standard
deviation, `test/top1_std`. With --config.sweep.retrain=False the trainings without `dev` count, as
in the released code.

Other keys are varied too, in all combinations:

    --config.sweep.grid="{'schedule.base': (0.01, 0.03), 'total': ('500 steps', '1000 steps')}"

Each training is a run of its own in WORKDIR/trials; those that are complete are not done again, and
the choice is kept in WORKDIR/choice.json before anything is trained by it. On n machines that see
the same workdir, give each --config.sweep.machines=n and its number from 0, --config.sweep.machine;
one that has nothing left to do before the others are ready says so, and is started again then.

Expected: what configs/finetune.py says; in machine time seven trainings.
"""

from configs import finetune


def get_config(words: str = "", run: str = "sweep"):
    """Takes a model, a dataset, a resolution and `smoke`."""
    return finetune.get_config(words, run)

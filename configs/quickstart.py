"""A small Mixer learns 1,437 handwritten digits: the first thing to run.

    python main.py --config=configs/quickstart.py --workdir=runs/quickstart

It takes a minute or so on two CPU cores; the README shows the accuracy and the output to expect.
The test split is only measured, never used to choose anything: the result is the last step's
accuracy.
"""

from configs import arguments, common


def get_config(words: str = "", run: str = "train"):
    """Takes a model to replace the small one, a dataset, a resolution and `smoke`."""
    args = arguments.parse(words, model="", dataset="digits", resolution=24)
    config = common.base(args, run, model=args.model or "Mixer-S/16")
    if not args.model:
        config.model.update(
            patch_size=4,
            num_blocks=4,
            hidden_dim=64,
            tokens_mlp_dim=32,
            channels_mlp_dim=256,
            stochastic_depth=0.1,
        )
    config.input.transform = "inception_crop(area=(50, 100))"
    config.batch_size = 64
    config.total = "50 epochs"
    config.schedule.update(base=0.003, warmup="100 steps")
    config.evaluators.test = common.evaluator(config, "test", "resize", "10 epochs")
    config.runtime.log_every = "50 steps"
    config.runtime.checkpoint_every = "200 steps"
    return common.smoke(config) if args.smoke else config

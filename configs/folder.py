"""Training on your own images: PATH/train/<class>/*.jpg, PATH/test/<class>/*.jpg.

    python main.py --config=configs/folder.py:folder:PATH --workdir=runs/mine

parquet:PATH, webdataset:PATH, manifest:FILE, arrays:PATH and cifar:PATH are read in the same way
(docs/data.md). Splits may be spelled Training, valid, Testing and the like. Without a test (or
validation) split a tenth of the training images is held out. With both, the checkpoint that is best
on the validation split is kept, for --config.init_step=best, by

    --config.evaluators.dev.split=validation --config.best=dev/top1

Other models and resolutions: configs/folder.py:folder:PATH,Mixer-B/16,224. The settings are a
starting point for some ten thousand images and one device: raise `total` and add regularisation
before blaming the data.
"""

from configs import arguments, common
from mixer.data.transforms import before_crop


def get_config(words: str = "", run: str = "train"):
    """Takes a dataset such as folder:PATH, a model, a resolution and `smoke`."""
    args = arguments.parse(words, model="Mixer-S/16", dataset="digits", resolution=224)
    config = common.base(args, run)
    size = args.resolution
    config.input.split = "auto"
    config.batch_size = 256
    config.total = "50 epochs"
    common.regularize(config, 0.1, own_rates=True)
    config.schedule.update(warmup="5 epochs", decay="cosine")
    transform = f"resize_small({before_crop(size)})|central_crop"
    for name, split in {"test": "auto", "dev": ""}.items():
        config.evaluators[name] = common.evaluator(config, split, transform, "1 epochs")
    config.runtime.checkpoint_every = "1 epochs"
    return common.smoke(config) if args.smoke else config

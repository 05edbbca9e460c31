r"""JFT-300M: table 4, rows "Mixer-S JFT-300M" to "Mixer-H JFT-300M", and the models of table 3.

    python main.py --config=configs/jft.py:Mixer-B/16 --workdir=runs/jft-b16

Data: not public. To make `jft`, with one split `full` and the feature `labels`, from your own
manifest: --config.run=prepare --config.prepare.source=manifest:FILE (docs/prepare.md). JFT-300M has
303 million images and 18,291 classes, with 1.26 labels per image on average.

Expected (not run here): top-1 on ImageNet after fine-tuning at 224, and TPUv3 core-days of
pretraining (paper, table 3); steps are for batches of 4,096 and 303 million images:

                epochs      steps  top-1, %  core-days
    Mixer-S/32       5    369,873     68.70         10
    Mixer-S/16       5    369,873     73.83         30
    Mixer-B/32       7    517,822     75.53         50
    Mixer-B/16       7    517,822     80.00         80
    Mixer-L/32       7    517,822     80.67        120
    Mixer-L/16       7    517,822     84.05        230
    Mixer-L/16      14  1,035,645     84.82        450
    Mixer-H/14      14  1,035,645     86.32      1,010

Mixer-L trains for 7 epochs here; table 4's other setting is --config.total='14 epochs'. ViT and BiT
are trained with Adam too: epochs from table 3, learning rates and weight decay 0.1 from ViT's own
table 3 (Dosovitskiy et al. 2021), which also lists 7 epochs for ViT-L.

                epochs   rate  top-1, %  core-days
    ViT-L/16        14   4e-4     85.63        650
    ViT-H/14        14   3e-4     86.65      2,300
    BiT-R50x1        7   1e-3     73.69         80
    BiT-R50x2        7   1e-3     78.92        140
    BiT-R152x1       7   6e-4     79.12        140
    BiT-R152x2      14   6e-4     83.34        580
    BiT-R200x3      14   6e-4     84.73      1,780

Figure 2, right, trains on parts of the set: configs/data_scaling.py.

What the paper leaves open, and what is done here:
- What is held out: as for ImageNet-21k, the first 25,600 images are `test`, the next `val`.
- Weight decay is on kernels only; the learning rate ends at 1e-5; the head's bias starts at -10, as
  in big_vision. No dropout, no stochastic depth: table 4 has none for these rows.
- The learning rate of BiT-R200x3: here R152x2's. Models in no table get the values of the nearest
  model of their family (ViT-S: ViT-B's), else Mixer-B's row. Gradients are clipped for all, as in
  section 3; ViT's paper mentions that for ImageNet only.
"""

from configs import arguments, common
from mixer.data.transforms import before_crop
from mixer.models import registry

# Part of the model's name (the first match counts): epochs, learning rate, weight decay.
_ROWS = {
    "Mixer-S": (5, 0.003, 0.03),
    "Mixer-B": (7, 0.003, 0.03),
    "Mixer-L": (7, 0.001, 0.03),
    "Mixer-H": (14, 0.001, 0.03),
    "ViT-L/32": (7, 0.0006, 0.1),
    "ViT-L/16": (14, 0.0004, 0.1),
    "ViT-H": (14, 0.0003, 0.1),
    "BiT-R50": (7, 0.001, 0.1),
    "BiT-R101": (7, 0.0008, 0.1),
    "BiT-R152x1": (7, 0.0006, 0.1),
}
# For models without a row above, by family; other families get Mixer-B's row.
_NEAREST = {"ViT": (7, 0.0008, 0.1), "BiT": (14, 0.0006, 0.1)}


def get_config(words: str = "", run: str = "train"):
    """Takes a model, a resolution, another dataset and `smoke`."""
    args = arguments.parse(words, model="Mixer-B/16", dataset="jft", resolution=224)
    config = common.base(args, run)
    common.regularize(config, 0.0)
    if "head_bias_init" in config.model:
        config.model.head_bias_init = -10.0
    config.loss = "sigmoid_xent"
    if "prepare" in config:
        config.prepare.split = "full"
    config.input.split = "full[51200:]"
    config.input.transform = "inception_crop|flip_lr"
    config.batch_size = 4096
    epochs, rate, decay = _row(args.model)
    config.total = f"{epochs} epochs"
    config.optimizer.update(name="adam(b1=0.9, b2=0.999)", weight_decay=decay, clip_norm=1.0)
    config.schedule.update(base=rate, decay="linear", end=0.00001, warmup="10_000 steps")
    transform = f"resize_small({before_crop(args.resolution)})|central_crop"
    for name, split in {"test": "full[:25600]", "val": "full[25600:51200]"}.items():
        config.evaluators[name] = common.evaluator(
            config, split, transform, "10_000 steps", "multilabel"
        )
    return common.smoke(config) if args.smoke else config


def _row(model: str) -> tuple[int, float, float]:
    name, family = registry.known_as(model), registry.traits(model).family
    of_family = _NEAREST.get(family, _ROWS["Mixer-B"])
    return next((row for part, row in _ROWS.items() if part in name), of_family)

"""Builds the training step from the config: loss, optimizer, placement on a mesh; no data."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mixer import batch as batch_lib
from mixer import errors
from mixer.batch import Batch
from mixer.data.sources.label_kinds import Labels
from mixer.models import depth
from mixer.planning import flops
from mixer.runs.keys import at_least, within
from mixer.runs.labels import check_loss
from mixer.runs.model import rules_of, with_memory_saved
from mixer.runs.sam import passes, sam_of
from mixer.runs.teacher import Teacher
from mixer.training import losses, meshes, nonfinite, optimizer, per_example, placement, step
from mixer.training.mixing import Mixing
from mixer.weights import fitting


@dataclasses.dataclass(frozen=True)
class Update:
    """One step of a training, from a batch of uint8 images to the next state.

    Attributes:
      init: parameters, or None for random ones -> state; to be jitted.
      train_step: (state, batch) -> (state, metrics); to be compiled.
      per_example: (params, batch) -> each row's loss and gradient norm; to be jitted.
      shapes: shapes of the parameters.
      mixing: mixup, CutMix or both; may be off.
      labels: what the labels of its batches are.
      num_classes: K.
      channels: C, of the images.
      flops_per_image: FLOPs of training on one image; None if they cannot be counted.
      multipliers: learning-rate multipliers other than 1 -> names of their parameters.
      teacher: of a distillation.
    """

    mesh: Mesh
    rules: tuple[placement.PlacementRule, ...]
    init: Callable[[Any], step.TrainState]
    train_step: Callable
    per_example: Callable
    shapes: Any
    batch_size: int
    image_size: tuple[int, int]
    mixing: Mixing
    labels: Labels
    num_classes: int
    channels: int
    micro_batches: int
    flops_per_image: int | None
    multipliers: dict[float, list[str]]
    teacher: Teacher | None = None

    @property
    def num_params(self) -> int:
        """The number of parameters, including frozen ones."""
        return sum(x.size for x in jax.tree.leaves(self.shapes))

    def rates(self) -> list[str]:
        """A line for each learning-rate multiplier (0: frozen), with its parameters."""
        sizes = {name: x.size for name, x in flatten_dict(self.shapes, sep="/").items()}
        lines = []
        for multiplier, names in sorted(self.multipliers.items()):
            what = f"rate times {multiplier:g}" if multiplier else "frozen"
            count = sum(sizes[name] for name in names)
            shown = ", ".join(fitting.abbreviated(names, sizes))
            lines.append(f"{what}, {count:,} of {self.num_params:,} parameters: {shown}")
        return lines

    def create_state(self, params: Any = None) -> step.TrainState:
        """A state at step 0 on the devices, with these parameters or random ones."""
        return step.create_state(self.mesh, self.init, params, self.rules)

    def abstract_state(self) -> step.TrainState:
        """Shapes, dtypes and placements of the state."""
        return step.abstract_state(self.mesh, self.init, rules=self.rules)

    def abstract_batch(self) -> Batch:
        """Shapes, dtypes and placement of a global batch."""
        place = meshes.batch_sharding(self.mesh)
        outputs = self.num_classes if self.labels.are_vectors else 0
        of_label = self.labels.most, outputs
        spec = batch_lib.spec(self.batch_size, self.image_size, *of_label, self.channels)
        return {k: jax.ShapeDtypeStruct(v.shape, v.dtype, sharding=place) for k, v in spec.items()}

    def compile(self) -> jax.stages.Compiled:
        """Compiles the step for this mesh; allocates nothing."""
        teacher = self.teacher and self.teacher.shapes
        return step.compile_step(
            self.train_step, self.abstract_state(), self.mesh, self.abstract_batch(), teacher
        )

    def ready(self) -> Callable:
        """The compiled step, with its teacher if any: (state, batch) -> (state, metrics)."""
        compiled = step.guarded(self.compile())
        if self.teacher is None:
            return compiled
        params = self.teacher.params
        return lambda state, batch: compiled(state, batch, params)

    def check(self) -> None:
        """Traces the step, to find errors that show only then.

        Raises:
          BadInput: tracing fails.
        """
        try:
            state, teacher = jax.eval_shape(self.init, None), self.teacher and self.teacher.shapes
            jax.eval_shape(self.train_step, state, self.abstract_batch(), teacher)
        except (TypeError, ValueError, KeyError, AttributeError, ZeroDivisionError) as error:
            message = (str(error).strip() or repr(error)).splitlines()[0]
            raise errors.BadInput(
                f"a training step with this config.model and config.optimizer fails: {message}"
            ) from error


def update_of(
    config: ConfigDict,
    model: nn.Module,
    image_size: tuple[int, int],
    schedule: optax.Schedule,
    mesh: Mesh,
    labels: Labels,
    class_weights: np.ndarray | None = None,
    teacher: Teacher | None = None,
) -> Update:
    """Builds the config's step on a `training_mesh`.

    Args:
      class_weights: float32 [K]; None: all classes count the same.
      teacher: of a distillation.

    Raises:
      BadInput: a number, the loss, the optimizer or the placement is invalid.
    """
    _check_numbers(config)
    check_loss(config.loss, labels, config.dataset, config.label_smoothing)
    mixing = mixing_of(config)
    rules, shapes = rules_of(config, mesh.shape["fsdp"]), fitting.shapes(model, image_size)
    placement.parameter_specs(shapes, mesh, rules)
    by_layer = layer_rates(config, model, image_size)
    chain = optimizer.make_optimizer(
        config.optimizer.name,
        shapes,
        schedule,
        weight_decay=config.optimizer.weight_decay,
        clip_norm=config.optimizer.clip_norm,
        agc=config.optimizer.agc,
        multipliers=config.optimizer.multipliers,
        by_layer=by_layer,
    )
    if config.skip_nonfinite:
        chain = nonfinite.skip_nonfinite(chain)
    model = with_memory_saved(model, config)
    loss = losses.named(config.loss)
    if class_weights is not None:
        loss = losses.weighted(loss, class_weights, config.label_smoothing)
    update = Update(
        mesh=mesh,
        rules=rules,
        init=lambda params: step.init_state(
            model, chain, image_size, seed=config.seed, ema=config.ema_decay > 0, params=params
        ),
        train_step=step.make_step(
            model,
            loss,
            chain,
            schedule,
            seed=config.seed,
            label_smoothing=config.label_smoothing,
            mixing=mixing,
            ema_decay=config.ema_decay,
            micro_batches=config.micro_batches,
            sam=sam_of(config, schedule, shapes),
            regression=config.loss == losses.REGRESSION,
            distillation=teacher and teacher.distillation,
            mesh=mesh,
            rules=rules,
        ),
        per_example=per_example.make_per_example(
            model, loss, label_smoothing=config.label_smoothing, mesh=mesh
        ),
        shapes=shapes,
        batch_size=config.batch_size,
        image_size=image_size,
        mixing=mixing,
        labels=labels,
        num_classes=model.num_classes,
        channels=batch_lib.channels(model),
        micro_batches=config.micro_batches,
        flops_per_image=None,
        multipliers=optimizer.by_multiplier(shapes, config.optimizer.multipliers, by_layer),
        teacher=teacher,
    )
    update.check()
    counted = _flops(model, image_size, passes(config), teacher)
    return dataclasses.replace(update, flops_per_image=counted)


def layer_rates(
    config: ConfigDict, model: nn.Module, image_size: tuple[int, int]
) -> dict[str, float]:
    """The multipliers of `config.optimizer.layer_decay`, by the top of a parameter's name.

    Raises:
      BadInput: it is not in (0, 1], or the model has no blocks.
    """
    decay = config.optimizer.layer_decay
    if not 0 < decay <= 1:
        raise errors.BadInput(
            f"config.optimizer.layer_decay={decay}: expected 0 < layer_decay <= 1; 1: all layers "
            f"have the same rate"
        )
    layers = {} if decay == 1 else depth.layers(model, image_size)
    if layers is None:
        raise errors.BadInput(
            f"config.optimizer.layer_decay={decay}: {type(model).__name__} has no blocks, which "
            f"are known by names such as MyBlock_0, MyBlock_1: name its blocks so, or give each "
            f"part its rate by config.optimizer.multipliers"
        )
    return optimizer.layer_rates(layers, decay)


def mixing_of(config: ConfigDict) -> Mixing:
    """The config's mixup and CutMix.

    Raises:
      BadInput: a number is outside its range.
    """
    mixup, cutmix = config.mixup, config.cutmix
    within(0, math.inf, mixup=mixup, cutmix=cutmix)
    if not (mixup and cutmix):
        return Mixing(mixup, cutmix)
    probability = config.mixup_switch_prob
    if not 0 < probability < 1:
        raise errors.BadInput(
            f"config.mixup_switch_prob={probability}: expected 0 < mixup_switch_prob < 1, as "
            f"config.mixup={mixup} and config.cutmix={cutmix} are both on. For one of them alone, "
            f"set the other to 0"
        )
    return Mixing(mixup, cutmix, probability)


def _check_numbers(config: ConfigDict) -> None:
    if config.model.get("dtype") == "float16":
        raise errors.BadInput(
            "config.model.dtype='float16' is not for training: gradients averaged over a batch "
            "underflow, and the loss is not scaled here. Use bfloat16"
        )
    within(0, 2**32, seed=config.seed)
    at_least(0, skip_nonfinite=config.skip_nonfinite)
    within(0, 1, label_smoothing=config.label_smoothing, ema_decay=config.ema_decay)
    keys = ("weight_decay", "clip_norm", "agc")
    within(0, math.inf, **{f"optimizer.{k}": config.optimizer[k] for k in keys})


def _flops(
    model: nn.Module, image_size: tuple[int, int], times: int, teacher: Teacher | None
) -> int | None:
    try:
        asked = flops.forward_macs(teacher.distillation.model, image_size) if teacher else 0
        return 2 * (times * flops.training_macs(model, image_size) + asked)
    except flops.Uncountable:
        return None

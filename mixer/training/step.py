"""The training step: loss, gradient, update, EMA and metrics; and the training state."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from mixer import batch as batch_lib
from mixer.batch import Batch
from mixer.training import losses, meshes, placement
from mixer.training import sam as sam_lib
from mixer.training.accumulation import in_parts, mean_gradient
from mixer.training.distillation import Distillation
from mixer.training.mixing import OFF, Draw, Mixing, mix
from mixer.training.placement import PlacementRule
from mixer.training.sam import Sam

# Purposes of random keys, folded into the key of the seed.
_INIT, _DROPOUT, _MIXUP, _CUTMIX = 0, 1, 2, 3


@flax.struct.dataclass
class TrainState:
    """What training changes.

    Attributes:
      step: int32, the number of updates done.
      params: the parameters, nested dict of float32 arrays.
      opt_state: the optimizer's state.
      ema: exponential moving average of the parameters; None without `config.ema_decay`.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ema: Any

    @classmethod
    def of_items(cls, items: dict[str, Any], step: int, mesh: Mesh) -> "TrainState":
        """The state after `step` updates, from its `items`."""
        counter = jax.device_put(jnp.int32(step), meshes.replicated(mesh))
        return cls(counter, items["params"], items["opt_state"], items.get("ema"))

    def items(self) -> dict[str, Any]:
        """The trees of arrays that a checkpoint holds, by name. Its folder names the step."""
        items = {"params": self.params, "opt_state": self.opt_state}
        return items if self.ema is None else items | {"ema": self.ema}


def _key(seed: int, purpose: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), purpose)


def _key_of(seed: int, purpose: int, step: jax.typing.ArrayLike) -> jax.Array:
    return jax.random.fold_in(_key(seed, purpose), step)


def _mixing_keys(mixing: Mixing, seed: int, step: jax.typing.ArrayLike) -> list[jax.Array]:
    purposes = (_MIXUP, _CUTMIX) if mixing.cutmix else (_MIXUP,)
    return [_key_of(seed, purpose, step) for purpose in purposes]


def draw_of(
    mixing: Mixing, seed: int, step: jax.typing.ArrayLike, image_size: tuple[int, int]
) -> Draw:
    """How the update after `step` updates mixes its batch, if `mixing` is on."""
    return mixing.draw(image_size, *_mixing_keys(mixing, seed, step))


def init_params(model: nn.Module, image_size: tuple[int, int], seed: int) -> Any:
    """The random initial parameters for this seed. Call it under jit or `jax.eval_shape`."""
    images = jnp.zeros((1, *image_size, batch_lib.channels(model)), jnp.float32)
    return model.init(_key(seed, _INIT), images)["params"]


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_size: tuple[int, int],
    *,
    seed: int,
    ema: bool,
    params: Any = None,
) -> TrainState:
    """The initial state, with `params` instead of random ones if given.

    Call it under jit or `jax.eval_shape`.
    """
    if params is None:
        params = init_params(model, image_size, seed)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        # A copy, because the step donates the buffers of the state, and each only once.
        ema=jax.tree.map(jnp.copy, params) if ema else None,
    )


def create_state(
    mesh: Mesh,
    init: Callable[..., TrainState],
    params: Any = None,
    rules: Sequence[PlacementRule] = (),
) -> TrainState:
    """Runs `init` (params -> state) under jit: each array is created with its final sharding."""
    places = jax.tree.map(lambda x: x.sharding, abstract_state(mesh, init, params, rules))
    return jax.jit(init, out_shardings=places)(params)


def abstract_state(
    mesh: Mesh,
    init: Callable[..., TrainState],
    params: Any = None,
    rules: Sequence[PlacementRule] = (),
) -> TrainState:
    """The shapes, dtypes and shardings of the state that `init` makes. Allocates nothing."""
    abstract = jax.eval_shape(init, params)
    return jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        abstract,
        placement.shardings(abstract, abstract.params, mesh, rules),
    )


def make_step(
    model: nn.Module,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    seed: int,
    label_smoothing: float = 0.0,
    mixing: Mixing = OFF,
    ema_decay: float = 0.0,
    micro_batches: int = 1,
    sam: Sam | None = None,
    regression: bool = False,
    distillation: Distillation | None = None,
    mesh: Mesh,
    rules: Sequence[PlacementRule] = (),
) -> Callable[..., tuple[TrainState, dict[str, jax.Array]]]:
    """Makes step(state, batch) -> (state, metrics); metrics are float32 scalars.

    With `distillation` it is step(state, batch, teacher), with the teacher's parameters.

    "accuracy" is precision@1: of the rows with a label, the share whose most likely class is among
    their own labels, whatever is mixed into them. The random keys of dropout, stochastic depth,
    mixup and CutMix derive from (seed, step), so the state holds no key. After update t, counted
    from 0, ema = d * ema + (1 - d) * params with d = min(ema_decay, (1 + t) / (10 + t)).

    Args:
      micro_batches: number of parts into which the batch is split after mixing. They go through the
        model one after the other, with dropout masks of their own.
      sam: if given, each step takes two gradients, see sam.py, and twice the time.
      regression: the outputs are no logits, so there is no accuracy.
      distillation: if given, a teacher's answers are targets besides the labels.
      rules: placement of the parameters, see placement.py.
    """
    apply = meshes.shard_activations(model.apply, mesh)
    if distillation:
        ask = meshes.shard_activations(distillation.model.apply, mesh)

    def place(grads):
        places = placement.shardings(grads, grads, mesh, rules)
        return jax.lax.with_sharding_constraint(grads, places)

    def objective(params, part, key):
        logits = apply({"params": params}, part["image"], train=True, rngs={"dropout": key})
        counts = {}
        if not regression:
            counts = {
                "hits": batch_lib.hits(logits, part["label"]).sum(),
                "labelled": batch_lib.has_label(part["label"]).sum(),
            }
        value = loss(logits, part["target"]).mean()
        if distillation:
            each = distillation.loss(logits, part["teacher"])
            agree = logits.argmax(axis=-1) == part["teacher"].argmax(axis=-1)
            counts |= {"distill_loss": each.sum(), "agreement": agree.sum()}
            value = (1 - distillation.weight) * value + distillation.weight * each.mean()
        return value, counts

    def step(state: TrainState, batch: Batch, teacher: Any = None):
        dropout_key = _key_of(seed, _DROPOUT, state.step)
        mixing_keys = _mixing_keys(mixing, seed, state.step)
        images = batch_lib.to_model_input(batch["image"])
        targets = losses.targets(batch["label"], model.num_classes, label_smoothing)
        if mixing.on:
            draw = mixing.draw(images.shape[1:3], *mixing_keys)
            images, targets = mix(draw, images, targets)
        rows = {"image": images, "target": targets, "label": batch["label"]}
        if distillation:
            answer = functools.partial(ask, {"params": teacher})
            rows["teacher"] = in_parts(answer, images, micro_batches)

        def gradient_at(params):
            return mean_gradient(objective, params, rows, dropout_key, micro_batches, place)

        if sam is None:
            grads, value, counts = gradient_at(state.params)
            more = {}
        else:
            grads, value, counts, more = sam_lib.gradient(
                sam, gradient_at, state.params, state.step
            )
        if distillation:
            more |= {name: counts[name] / len(images) for name in ("distill_loss", "agreement")}
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = state.ema
        if ema is not None:
            decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(params, ema, 1 - decay)
        metrics = {"loss": value}
        if not regression:
            metrics["accuracy"] = counts["hits"] / jnp.maximum(counts["labelled"], 1)
        metrics |= {
            "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
            "grad_norm": optax.tree.norm(grads),
            "param_norm": optax.tree.norm(params),
            "update_norm": optax.tree.norm(updates),
            **more,
        }
        return TrainState(state.step + 1, params, opt_state, ema), metrics

    return step


def compile_step(
    step, state: TrainState, mesh: Mesh, batch: Batch, teacher: Any = None
) -> jax.stages.Compiled:
    """Compiles `step` for `state` (or its abstract form) and batches of `batch`'s shapes.

    A call donates the buffers of the state.

    Args:
      teacher: the teacher's parameters, or their abstract form; None for a step without one.
    """
    of_teacher = () if teacher is None else (teacher,)
    places = jax.tree.map(lambda x: x.sharding, state)
    jitted = jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(
            places,
            meshes.batch_sharding(mesh),
            *(jax.tree.map(lambda x: x.sharding, each) for each in of_teacher),
        ),
        out_shardings=(places, meshes.replicated(mesh)),
    )
    return jitted.lower(state, batch, *of_teacher).compile()


def guarded(compiled: Callable) -> Callable:
    """Wraps `compiled` so that an implicit transfer between host and device raises an error."""

    @functools.wraps(compiled)
    def call(*args):
        with jax.transfer_guard("disallow"):
            return compiled(*args)

    return call

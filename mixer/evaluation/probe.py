"""Linear probe: multinomial logistic regression on all features, to its optimum, by L-BFGS.

It minimises the sum over all images of the cross-entropy, plus l2 / 2 times the squared norm of the
weights; the bias is free. So l2 is 1 / C of scikit-learn's LogisticRegression. The problem is
convex: there is no learning rate, no schedule and no seed, and every solver finds the same head.
That is why Kornblith et al. (2019) and CLIP (Radford et al. 2021) probe in this way. The features
are standardised first, as by the batch norm of MAE's probe (He et al. 2022, appendix A.1), so that
one l2 suits features of any scale; the head that is returned takes them as they are.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mixer import errors
from mixer.evaluation.features import Features, put

# It ends when no derivative of the mean loss is larger: a tenth of scikit-learn's default.
TOLERANCE = 1e-5
ITERATIONS = 1000  # at most
_MEMORY = 10  # pairs of differences that L-BFGS keeps
HOLD_OUT = 5  # every fifth image of each class is held out to choose l2


class Head(NamedTuple):
    """A linear head: logits = features @ kernel + bias.

    Attributes:
      kernel: float32 [D, K].
      bias: float32 [K].
    """

    kernel: np.ndarray
    bias: np.ndarray


class Fit(NamedTuple):
    """The optimum for one l2.

    Attributes:
      weights: {"kernel": [D, K], "bias": [K]} for standardised features, on the devices.
      iterations: how many L-BFGS took.
      slope: the largest derivative of the mean loss there.
    """

    weights: dict[str, jax.Array]
    iterations: int
    slope: float


@dataclasses.dataclass(frozen=True)
class Problem:
    """Standardised features and labels on the devices, rows split over the mesh's `rows` axes.

    Attributes:
      z: float32 [N', D], padded to a multiple of the devices.
      labels: int32 [N'].
      rows: bool [N'], False in the padding.
      held_out: bool [N'], of each class the images HOLD_OUT, 2 HOLD_OUT, ..., counted from 1.
      mean, scale: float64 [D], by which the features were standardised.
    """

    z: jax.Array
    labels: jax.Array
    rows: np.ndarray
    held_out: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    num_classes: int
    place: NamedSharding

    @classmethod
    def of(cls, found: Features, num_classes: int, mesh: Mesh) -> "Problem":
        """Places all features on the devices."""
        x = found.features.astype(np.float64)
        mean, scale = x.mean(axis=0), x.std(axis=0)
        scale[scale <= 1e-6 * np.abs(x).max(axis=0)] = 1  # constant but for rounding
        padding = -len(x) % mesh.size
        place = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        z = np.pad(((x - mean) / scale).astype(np.float32), ((0, padding), (0, 0)))
        return cls(
            z=put(z, place),
            labels=put(np.pad(found.labels, (0, padding)), place),
            rows=np.arange(len(z)) < len(x),
            held_out=np.pad(_every_fifth(found.labels), (0, padding)),
            mean=mean,
            scale=scale,
            num_classes=num_classes,
            place=place,
        )

    @property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self.place.mesh, PartitionSpec())

    def fit(self, l2: float, rows: np.ndarray, start: Fit | None = None) -> Fit:
        """The optimum on these rows.

        Args:
          start: another fit to start from; it saves time, the optimum is the same.
        """
        if start is None:
            shape = self.z.shape[1], self.num_classes
            weights = {
                "kernel": np.zeros(shape, np.float32),
                "bias": np.zeros(shape[1], np.float32),
            }
            weights = jax.device_put(weights, self._everywhere)
        else:
            weights = start.weights
        penalty = np.float32(l2 / rows.sum())
        data = self.z, self.labels, put(rows.astype(np.float32) / rows.sum(), self.place)
        weights, iterations, slope = _minimise(weights, penalty, *data, self._everywhere)
        return Fit(weights, int(iterations), float(slope))

    def measure(self, fit: Fit, rows: np.ndarray) -> tuple[float, float]:
        """(mean cross-entropy in nats, top-1 accuracy) on these rows."""
        share = put(rows.astype(np.float32) / rows.sum(), self.place)
        nll, top1 = _measure(fit.weights, self.z, self.labels, share)
        return float(nll), float(top1)

    def head(self, fit: Fit) -> Head:
        """The head for features that are not standardised."""
        kernel, bias = (np.asarray(fit.weights[k], np.float64) for k in ("kernel", "bias"))
        kernel = kernel / self.scale[:, None]
        return Head(kernel.astype(np.float32), (bias - self.mean @ kernel).astype(np.float32))


def choose(
    problem: Problem,
    values: tuple[float, ...],
    report: Callable[[float, Fit, float, float], None],
    interrupted: Callable[[], bool] = lambda: False,
) -> float | None:
    """The l2 with the smallest cross-entropy on the images held out; None if interrupted.

    Args:
      report: called with l2, its fit on the other images, and its cross-entropy and accuracy.

    Raises:
      BadInput: there are too few images to hold some out.
    """
    if len(values) == 1:
        return values[0]
    held_out = problem.held_out
    if not held_out.any():
        raise errors.BadInput(
            f"config.probe.l2={values}: too few images to hold some out for the choice: give one"
        )
    found, fit = {}, None
    for l2 in sorted(values, reverse=True):  # from the smoothest on, each from the one before
        if interrupted():
            return None
        fit = problem.fit(l2, problem.rows & ~held_out, fit)
        nll, top1 = problem.measure(fit, held_out)
        report(l2, fit, nll, top1)
        found[l2] = nll
    return min(found, key=lambda l2: found[l2])


def _every_fifth(labels: np.ndarray) -> np.ndarray:
    found = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        found[np.flatnonzero(labels == label)[HOLD_OUT - 1 :: HOLD_OUT]] = True
    return found


def _logits(weights: dict[str, jax.Array], z: jax.Array) -> jax.Array:
    exact = jax.lax.Precision.HIGHEST
    return jnp.matmul(z, weights["kernel"], precision=exact) + weights["bias"]


@functools.partial(jax.jit, static_argnums=5)
def _minimise(weights, penalty, z, labels, share, everywhere) -> tuple[Any, jax.Array, jax.Array]:
    """L-BFGS from `weights`, which stay `everywhere`; `share` is each row's share of the mean."""

    def objective(weights):
        loss = optax.softmax_cross_entropy_with_integer_labels(_logits(weights, z), labels)
        return jnp.sum(share * loss) + penalty / 2 * jnp.sum(weights["kernel"] ** 2)

    solver = optax.lbfgs(memory_size=_MEMORY)
    value_and_grad = optax.value_and_grad_from_state(objective)

    def step(carry):
        weights, state, count, _ = carry
        value, grad = value_and_grad(weights, state=state)
        updates, state = solver.update(
            grad, state, weights, value=value, grad=grad, value_fn=objective
        )
        moved = optax.tree.norm(updates, ord=jnp.inf) > 0
        weights = optax.apply_updates(weights, updates)
        slope = optax.tree.norm(optax.tree.get(state, "grad"), ord=jnp.inf)
        return weights, state, count + 1, jnp.where(moved, slope, 0.0)

    def going(carry):
        *_, count, slope = carry
        return (count < ITERATIONS) & (slope > TOLERANCE)

    begin = weights, solver.init(weights), jnp.int32(0), jnp.float32(jnp.inf)
    weights, _, count, _ = jax.lax.while_loop(going, step, begin)
    slope = optax.tree.norm(jax.grad(objective)(weights), ord=jnp.inf)
    return jax.lax.with_sharding_constraint(weights, everywhere), count, slope


@jax.jit
def _measure(weights, z, labels, share) -> tuple[jax.Array, jax.Array]:
    logits = _logits(weights, z)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.sum(share * loss), jnp.sum(share * (logits.argmax(axis=-1) == labels))

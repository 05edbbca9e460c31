"""Distillation: the answers of a trained model, the teacher, for the same images are targets too.

The teacher sees exactly what the student sees, after crop, flip and mixing (the consistent teaching
of Beyer et al. 2022), and answers as in inference, without dropout and stochastic depth.
"""

import dataclasses
from collections.abc import Callable

import jax
import optax
from flax import linen as nn

_Loss = Callable[[jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Distillation:
    """What a step needs of the teacher besides its parameters.

    Attributes:
      model: the teacher.
      loss: (student's logits, teacher's logits), both [N, K], -> float32 [N].
      weight: share of this loss in the whole; the labels' loss has the rest.
    """

    model: nn.Module
    loss: _Loss
    weight: float


def soft(temperature: float) -> _Loss:
    """T^2 KL(teacher || student), in nats, of the softmax of both logits divided by T.

    Hinton et al. 2015: with the factor T^2 the gradients keep their size when T changes.
    """

    def loss(student, teacher):
        log_q, log_p = (jax.nn.log_softmax(x / temperature) for x in (student, teacher))
        return temperature**2 * optax.losses.kl_divergence_with_log_targets(log_q, log_p)

    return loss


def hard(of_labels: _Loss) -> _Loss:
    """The loss for the teacher's most likely class as the label (Touvron et al. 2021, DeiT).

    Args:
      of_labels: (logits, targets [N, K]) -> [N].
    """
    return lambda student, teacher: of_labels(
        student, jax.nn.one_hot(teacher.argmax(axis=-1), teacher.shape[-1])
    )

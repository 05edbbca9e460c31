"""The writer `wandb`: Weights & Biases. The variables WANDB_* say where to, and whether at all.

With WANDB_MODE=offline it writes to ./wandb, for `wandb sync`, and uses no network.
"""

import os
from collections.abc import Mapping

from PIL import Image

from mixer.training.writers import FINISHED, STOPPED, Service, Session, register_writer


@register_writer("wandb")
class WeightsAndBiases(Service):
    """A run of W&B; a stopped one is marked as preempted there."""

    name = "wandb"

    def open(self, session: Session, known: str | None) -> None:
        """See `writers.Service`; without a login it raises instead of asking for one."""
        import wandb

        online = wandb.setup().settings.mode == "online"
        if online and not wandb.login(prompt=False, verify=False):
            raise RuntimeError(
                "wandb is not logged in: run `wandb login`, or set WANDB_API_KEY, or "
                "WANDB_MODE=offline"
            )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mixer"),
            name=os.environ.get("WANDB_NAME", session.workdir.name),
            id=known or session.keep_id(self.name),
            resume="allow",
            config=dict(session.config),
            allow_val_change=True,
        )
        # W&B takes no number for a step that it has passed. An offline session has its own file,
        # which then holds the whole run, whatever was lost when an earlier one was killed.
        self._first = 0 if self._run.offline else self._run.step

    def holds(self, step: int, name: str) -> bool:
        """See `writers.Service`."""
        return step < self._first

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Lines of one step become one row."""
        self._run.log(dict(metrics), step=step)

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        """See `writers.Writer`."""
        import wandb

        self._run.log({name: wandb.Image(picture)}, step=step)

    def close(self, state: str, metrics: Mapping[str, float]) -> None:
        """The final metrics and the state become the run's summary."""
        self._run.summary.update({**metrics, "state": state})
        if state == STOPPED:
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if state == FINISHED else 1)

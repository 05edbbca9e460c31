"""The writer `trackio`: a local database, in TRACKIO_DIR if that is set.

TRACKIO_SPACE_ID or TRACKIO_SERVER_URL send it elsewhere.
"""

import os
from collections.abc import Mapping

from PIL import Image

from mixer.training.writers import Service, Session, register_writer


@register_writer("trackio")
class Trackio(Service):
    """A run of Trackio, whose name ends in the id; its state is a value, as Trackio has none."""

    name = "trackio"

    def open(self, session: Session, known: str | None) -> None:
        """See `writers.Service`."""
        import trackio

        self._last = session.step
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", "mixer"),
            name=f"{session.workdir.name}-{known or session.keep_id(self.name)}",
            resume="allow",
            config=dict(session.config),
            embed=False,
        )
        # Trackio itself numbers on from the last step that it holds, which may lack a metric.
        self._first = getattr(self._run, "_next_step", 0) - 1

    def holds(self, step: int, name: str) -> bool:
        """See `writers.Service`."""
        return step < self._first

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A thread of Trackio's writes them within a second."""
        self._last = step
        self._run.log(dict(metrics), step=step)

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        """See `writers.Writer`."""
        import trackio

        self._run.log({name: trackio.Image(picture)}, step=step)

    def close(self, state: str, metrics: Mapping[str, float]) -> None:
        """The final metrics are the last values, so only the state is added."""
        self._run.log({"state": state}, step=self._last)
        self._run.finish()

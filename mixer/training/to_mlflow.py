"""The writer `mlflow`: the store in MLFLOW_TRACKING_URI, by default ./mlflow.db and ./mlruns."""

import os
import re
import time
from collections.abc import Mapping

from PIL import Image

from mixer.training.writers import FAILED, FINISHED, STOPPED, Service, Session, register_writer

_STATUS = {FINISHED: "FINISHED", FAILED: "FAILED", STOPPED: "KILLED"}

_MOST = 100  # parameters in one request


@register_writer("mlflow")
class MLflow(Service):
    """A run of MLflow. Its parameters are the first session's, as MLflow cannot change them."""

    name = "mlflow"

    def open(self, session: Session, known: str | None) -> None:
        """See `writers.Service`."""
        # No usage statistics, and no minutes of waiting for a server that is gone.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        import mlflow

        self._client = mlflow.MlflowClient()
        self._id = known or self._create(session)
        self._client.update_run(self._id, status="RUNNING")
        names = self._client.get_run(self._id).data.metrics if known else ()
        self._held = {
            (metric.step, name)
            for name in names
            for metric in self._client.get_metric_history(self._id, name)
        }

    def holds(self, step: int, name: str) -> bool:
        """See `writers.Service`."""
        return (step, _allowed(name)) in self._held

    def _create(self, session: Session) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "mixer")
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run = self._client.create_run(number, run_name=session.workdir.name).info.run_id
        params = [Param(key, str(value)) for key, value in session.config.items()]
        for first in range(0, len(params), _MOST):
            self._client.log_batch(run, params=params[first : first + _MOST])
        return session.keep_id(self.name, run)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One request."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        rows = [Metric(_allowed(name), float(v), now, step) for name, v in metrics.items()]
        self._client.log_batch(self._id, metrics=rows)

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        """An artifact."""
        self._client.log_image(self._id, picture, artifact_file=f"{name}_{step}.png")

    def close(self, state: str, metrics: Mapping[str, float]) -> None:
        """The final metrics are the last values, which MLflow shows of a run."""
        self._client.set_terminated(self._id, _STATUS[state])


def _allowed(name: str) -> str:
    """The name with underscores for characters that MLflow does not take."""
    return re.sub(r"[^\w./ :-]", "_", name)

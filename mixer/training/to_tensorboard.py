"""The writer `tensorboard`: event files in the workdir."""

import io
import json
import os
import socket
import time
from collections.abc import Mapping

from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams
from tensorboard.plugins.text import metadata as text
from tensorboard.summary.writer.record_writer import RecordWriter

from mixer import storage
from mixer.training.writers import FAILED, FINISHED, Session, register_writer

_STATUS = {FINISHED: api_pb2.STATUS_SUCCESS, FAILED: api_pb2.STATUS_FAILURE}


@register_writer("tensorboard")
class TensorBoard:
    """One event file for each session; TensorBoard reads them as one run.

    The config is there as text and, with the metrics, in the tab HParams. From the step of the
    session on, TensorBoard drops what earlier files hold.
    """

    def __init__(self, session: Session):
        # TensorBoard finds and orders event files by names of this form.
        host = socket.gethostname()
        name = f"events.out.tfevents.{time.time():010.0f}.{host}.{os.getpid()}.0"
        self._file = storage.grow(session.workdir / name, check_ours=session.check_ours)
        self._event(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._event(step=session.step, session_log=start)
        self._config(session)
        # TensorBoard drops this step's events too, as its evaluation may be repeated.
        for step, metrics in session.lines:
            if step == session.step:
                self.scalars(step, metrics)

    def _config(self, session: Session) -> None:
        """As text, and for the tab HParams."""
        shown = json.dumps(session.config, indent=4)
        lines = "\n".join(f"    {line}" for line in shown.splitlines())  # Markdown's code
        tensor = tensor_pb2.TensorProto(
            dtype=types_pb2.DT_STRING, string_val=[lines.encode()], tensor_shape={}
        )
        self._summary(
            session.step,
            tag="config",
            metadata=text.create_summary_metadata("", ""),
            tensor=tensor,
        )
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for key, value in session.config.items():
            if isinstance(value, bool):
                start.hparams[key].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[key].number_value = value
            elif value is not None:
                start.hparams[key].string_value = str(value)
        self._hparams(hparams.SESSION_START_INFO_TAG, session_start_info=start)

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `writers.Writer`, as for the methods below."""
        values = [summary_pb2.Summary.Value(tag=k, simple_value=v) for k, v in metrics.items()]
        self._event(step=step, summary=summary_pb2.Summary(value=values))

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        png = io.BytesIO()
        picture.save(png, "PNG")
        image = summary_pb2.Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=3,
            encoded_image_string=png.getvalue(),
        )
        self._summary(step, tag=name, image=image)

    def flush(self) -> None:
        self._file.flush()

    def close(self, state: str, metrics: Mapping[str, float]) -> None:
        end = plugin_data_pb2.SessionEndInfo(
            status=_STATUS.get(state, api_pb2.STATUS_UNKNOWN), end_time_secs=time.time()
        )
        self._hparams(hparams.SESSION_END_INFO_TAG, session_end_info=end)
        self._file.close()

    def _hparams(self, tag: str, **content) -> None:
        data = plugin_data_pb2.HParamsPluginData(**content)
        self._summary(
            0,
            tag=tag,
            metadata=hparams.create_summary_metadata(data),
            tensor=hparams.NULL_TENSOR,
        )

    def _summary(self, step: int, **value) -> None:
        summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(**value)])
        self._event(step=step, summary=summary)

    def _event(self, **content) -> None:
        event = event_pb2.Event(wall_time=time.time(), **content)
        RecordWriter(self._file).write(event.SerializeToString())

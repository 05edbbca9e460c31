"""Where a run's numbers and pictures are shown besides metrics.jsonl: the table of writers.

A writer never stops a run: its first error ends the writer, with one warning.
"""

import dataclasses
import importlib
import importlib.util
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
from etils import epath
from PIL import Image

from mixer import errors, storage

# {name: the module that registers it}; imported when a run asks for it.
_OURS = {
    "tensorboard": "mixer.training.to_tensorboard",
    "wandb": "mixer.training.to_wandb",
    "trackio": "mixer.training.to_trackio",
    "mlflow": "mixer.training.to_mlflow",
}
# Those that need an extra of the same name, and the module that it brings.
_EXTRAS = ("wandb", "trackio", "mlflow")
# How a run, or its part in this process, ends.
FINISHED, FAILED, STOPPED = "finished", "failed", "stopped"


@dataclasses.dataclass(frozen=True)
class Session:
    """What a writer is told at the start, about the run and its part from now on.

    Attributes:
      workdir: the run's folder.
      config: the keys that the run uses, {"a.b": JSON value}.
      step: of the checkpoint that the run resumes from; 0 at the beginning.
      lines: (step, metrics) of the lines in metrics.jsonl up to that checkpoint.
      check_ours: see `storage.grow`.
    """

    workdir: epath.Path
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: int = 0
    lines: Sequence[tuple[int, Mapping[str, float]]] = ()
    check_ours: Callable[[], None] = lambda: None

    def id_at(self, service: str) -> str | None:
        """The id that an earlier session kept by `keep_id`; None if there is none."""
        return self._ids().get(service)

    def keep_id(self, service: str, given: str = "") -> str:
        """Keeps the id by which a service knows this run, by default a new one, and returns it."""
        ids = self._ids() | {service: given or uuid.uuid4().hex[:12]}
        with storage.write_whole(self.workdir / "writers.json") as file:
            file.write(json.dumps(ids, indent=2).encode() + b"\n")
        return ids[service]

    def _ids(self) -> dict[str, str]:
        try:
            return json.loads((self.workdir / "writers.json").read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}


class Writer(Protocol):
    """What a writer implements: `scalars`; the other methods are optional.

    Whatever a method raises ends the writer, not the run.
    """

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes finite numbers by name; one step may come twice, with different names."""

    def image(self, step: int, name: str, picture: Image.Image) -> None:
        """Takes a picture, such as `first_batch`."""

    def flush(self) -> None:
        """Is called before each checkpoint: what came before is not sent again."""

    def close(self, state: str, metrics: Mapping[str, float]) -> None:
        """Takes "finished", "failed" or "stopped", which may be resumed, and the final metrics."""


Factory = Callable[[Session], Writer]
_WRITERS: dict[str, Factory] = {}


def register_writer(name: str, factory: Factory | None = None):
    """Makes `factory(session)` available to `config.writers`. Without `factory`, a decorator.

    The factory is called in process 0, once the workdir exists; see `Session` and `Writer`.
    """
    if factory is None:
        return lambda decorated: register_writer(name, decorated)
    _WRITERS[name] = factory
    return factory


class Service:
    """A writer to a service that knows the run by an id and cannot take back what it was sent.

    A later session continues the same run: it sends the lines of metrics.jsonl that the service
    lacks, and no number twice.

    A class derived from it has the attribute `name` and the methods `open`, `holds` and `log`.
    """

    name: str

    def __init__(self, session: Session):
        self.open(session, session.id_at(self.name))
        for step, metrics in session.lines:
            self.scalars(step, metrics)

    def open(self, session: Session, known: str | None) -> None:
        """Begins the run or, if its id is known, continues it."""
        raise NotImplementedError

    def holds(self, step: int, name: str) -> bool:
        """Whether an earlier session has sent this number."""
        raise NotImplementedError

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends numbers."""
        raise NotImplementedError

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """Sends those that the service does not hold."""
        if new := {name: v for name, v in metrics.items() if not self.holds(step, name)}:
            self.log(step, new)


def parse(text: str) -> tuple[str, ...]:
    """The names in `config.writers`, which are separated by commas.

    Raises:
      BadInput: one is not known.
    """
    names = tuple(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))
    for name in names:
        if name not in _OURS and name not in _WRITERS:
            raise errors.unknown("writer in config.writers", name, {*_OURS, *_WRITERS})
    return names


def check(names: Sequence[str]) -> None:
    """Refuses writers whose package is missing.

    Raises:
      BadInput: names the extra.
    """
    for name in names:
        if name in _EXTRAS and importlib.util.find_spec(name) is None:
            raise errors.needs_package(f"config.writers={name}", name, name)


class Writers:
    """The writers of a run, of which none can stop it. Only process 0 has any.

    As a context manager it closes them: finished, or failed by an exception.
    """

    def __init__(self, names: Sequence[str], session: Session):
        names = () if jax.process_index() else names
        self._writers = [_Guarded(name, session) for name in names]

    def __enter__(self) -> "Writers":
        return self

    def __exit__(self, kind, *_) -> None:
        self.close(FAILED if kind else FINISHED)

    def scalars(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Writer`, as for the methods below."""
        self._all("scalars", step, metrics)

    def image(self, step: int, name: str, draw: Callable[[], Image.Image]) -> None:
        """`draw` is called only if a writer takes pictures, and may fail with a warning."""
        if any(writer.has("image") for writer in self._writers):
            try:
                picture = draw()
            except Exception as error:
                print(f"warning: the picture {name} was not drawn: {error}", flush=True)
            else:
                self._all("image", step, name, picture)

    def flush(self) -> None:
        self._all("flush")

    def close(self, state: str, metrics: Mapping[str, float] = {}) -> None:
        self._all("close", state, metrics)

    def _all(self, method: str, *args) -> None:
        for writer in self._writers:
            writer.call(method, *args)


class _Guarded:
    """A writer until its first error."""

    def __init__(self, name: str, session: Session):
        self._name, self._writer = name, None
        self._writer = self._tried(lambda: _factory(name)(session))

    def has(self, method: str) -> bool:
        """Whether the writer has this method and still writes."""
        return hasattr(self._writer, method)

    def call(self, method: str, *args) -> None:
        """Calls a method, if the writer has it."""
        if self.has(method):
            self._tried(lambda: getattr(self._writer, method)(*args))

    def _tried(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except Exception as error:
            self._writer = None
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            print(f"warning: {reason}; {self._name} will lack the rest of this session", flush=True)


def _factory(name: str) -> Factory:
    if name not in _WRITERS:
        importlib.import_module(_OURS[name])
    return _WRITERS[name]

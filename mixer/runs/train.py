"""`config.run="train"`: trains, or goes on with, the run in the workdir until it is complete."""

import dataclasses
import time
from collections.abc import Callable

import jax
import psutil
from clu import parameter_overview
from etils import epath
from ml_collections import ConfigDict

from mixer.checkpoint import folders
from mixer.checkpoint.reading import newest_card
from mixer.checkpoint.store import Store
from mixer.data import turbojpeg
from mixer.errors import BadInput
from mixer.hosts import exchange, holding, parting, peers, stopping
from mixer.runs import resuming, start, workdir
from mixer.runs.checkpoints import Checkpoints, Progressed
from mixer.runs.evaluations import Evaluations
from mixer.runs.model import resolution
from mixer.runs.reader import Batches, say_what_is_read
from mixer.runs.results import Results
from mixer.runs.terminal import Laps, Terminal
from mixer.runs.training import Training, build_training
from mixer.signals import StopSignal
from mixer.training import durations, loop, profile, step
from mixer.training.progress import Progress
from mixer.training.step import TrainState
from mixer.training.writers import MetricsLog


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Trains; returns when the run is complete or was stopped after saving.

    Raises:
      BadInput: before anything is written.
      NonFinite: the last good checkpoint stands.
    """
    times = {"start and imports": time.time() - psutil.Process().create_time()}
    with stopping.stop_signal() as stop:
        train(config, output, protocol, stop, times)


def train(config: ConfigDict, output: str, protocol: str, stop: StopSignal, times: dict) -> None:
    """`run` under a `stop` that is entered; `times`: seconds until now, by what they went into."""
    laps = Laps(times)
    config = start.with_its_model(config, output)
    path = workdir.unfinished(output, config)
    if path is None:
        return
    folder = path / "checkpoints"
    with parting.watch(folder, folders.newest):
        # Build: whatever cannot be done is refused before anything is written.
        training = build_training(config, newest_card(path))
        exchange.same_work(training.total, training.examples)
        say_what_is_read(training.readers, training.measured)
        if trouble := exchange.first_error(training.unreadable()):
            raise BadInput(trouble)
        laps.lap("build")
        created = None if folder.exists() else _create(training, laps)
        workdir.begin(path, config)
        kept = {"keep": training.keep_checkpoints, "best": training.best}
        with (
            holding.hold(path) as check_ours,
            Store(folder, **kept, first_message=exchange.first_error) as store,
        ):
            # Restore, or create.
            checkpoints = Checkpoints(training, path, store)
            if newest := checkpoints.newest():
                state, begun = newest
                print(f"going on from step {begun.step:,} of {training.total:,}", flush=True)
                laps.lap("restore")
            else:
                state, begun = created or _create(training, laps)
                _say_what_is_trained(training)
            _train_on(training, path, checkpoints, check_ours, state, begun, stop, laps, protocol)


def _create(training: Training, laps: Laps) -> tuple[TrainState, Progressed]:
    """A state at step 0."""
    params, upstream = training.initial()
    state = training.update.create_state(params)
    jax.block_until_ready(state)
    laps.lap("initialise")
    return state, Progressed(upstream=upstream)


def _say_what_is_trained(training: Training) -> None:
    shapes = training.update.abstract_state().params
    print(parameter_overview.get_parameter_overview(shapes, include_stats=False, max_lines=12))
    print("\n".join([training.headline(), *training.update.rates()]))


def _train_on(
    training: Training,
    path: epath.Path,
    checkpoints: Checkpoints,
    check_ours: Callable[[], None],
    state: TrainState,
    begun: Progressed,
    stop: StopSignal,
    laps: Laps,
    protocol: str,
) -> None:
    """Loops from where the run has come to, and finishes it unless it is stopped."""
    readers = [training.reader, *(r for e in training.evaluations for r in e.readers)]
    if any([reader.stage() for reader in readers]):
        laps.lap("stage")
    with (
        MetricsLog(path, begun.lines, begun.step, check_ours) as log,
        Terminal(training, begun.step) as terminal,
        # Threads begin to read here, beside the compilation.
        training.reader.batches(begun.step, training.total) as batches,
    ):
        batches.skipped = 0 if peers.index() else begun.skipped
        compiled = step.guarded(training.update.compile())
        laps.lap("compile")
        progress = training.progress(begun.progress)
        session = _Session(
            training=training,
            path=path,
            checkpoints=checkpoints,
            check_ours=check_ours,
            begun=begun,
            stop=stop,
            laps=laps,
            log=log,
            terminal=terminal,
            batches=batches,
            progress=progress,
        )
        with profile.traced(compiled, training.profile, begun.step, path / "profile") as train_step:
            _, reached = loop.run(
                state,
                train_step,
                batches,
                session.hooks(),
                progress,
                stop,
                start=begun.step,
                total=training.total,
                evaluation_due=begun.evaluation_due,
            )
            checkpoints.wait()  # what is said from here on holds: the checkpoint is written
            if stop:
                terminal.stopped(stop.received, reached)
            else:
                session.finish(protocol)


@dataclasses.dataclass
class _Session:
    """What happens between the steps, and at the end."""

    training: Training
    path: epath.Path
    checkpoints: Checkpoints
    check_ours: Callable[[], None]
    begun: Progressed
    stop: StopSignal
    laps: Laps
    log: MetricsLog
    terminal: Terminal
    batches: Batches
    progress: Progress

    def __post_init__(self):
        training = self.training
        self.evaluations = Evaluations(training.evaluations, training.best, training.total)
        self.results = resuming.still_measured(training, self.begun.results)
        self.is_first = True  # until the first step is done

    def hooks(self) -> loop.Hooks:
        """For the loop."""
        total = self.training.total
        return loop.Hooks(
            log=self._log,
            evaluate=self._evaluate,
            save=self._save,
            tick=self._tick,
            log_at=lambda at: durations.is_due(at, self.training.log_every, total),
            evaluate_at=lambda at: bool(self.evaluations.due(at)),
            save_at=lambda at: durations.is_due(at, self.training.checkpoint_every, total),
            choose_at=self.evaluations.choose,
        )

    def _tick(self, at: int, metrics: dict[str, float]) -> None:
        if self.is_first:
            self.progress.drain()
            self.laps.lap("first batch and step")
            self.terminal.first_step(self.laps.times)
            self.is_first = False
        self.terminal.tick(at, metrics)

    def _log(self, at: int, summary: dict[str, float]) -> None:
        epoch = at * self.training.epochs / self.training.total
        if self.training.reader.rows.skip_bad:
            summary = summary | {"skipped_examples": self.batches.skipped_by_all()}
        self.log.write(at, {"epoch": epoch} | summary)
        self.terminal.progress(at, epoch, summary)

    def _evaluate(self, at: int, state: TrainState) -> dict[str, float] | None:
        metrics = self.evaluations.measure(at, state, self.stop.poll)
        if metrics:  # none if its evaluator was taken away since the step was saved
            self.results |= metrics
            self.log.write(at, metrics)
            self.terminal.measured(at, metrics)
        return metrics

    def _save(self, at: int, state: TrainState, metrics: dict | None, evaluation_due: bool) -> None:
        exchange.from_first(lambda: workdir.check_there(self.path))
        exchange.from_first(self.check_ours)
        self.log.flush()
        progressed = Progressed(
            step=at,
            progress=self.progress.state_dict(),
            results=self.results,
            lines=self.log.lines,
            upstream=self.begun.upstream,
            evaluation_due=evaluation_due,
            skipped=self.batches.skipped_by_all(),
        )
        self.checkpoints.save(state, progressed, metrics)

    def finish(self, protocol: str) -> None:
        """Writes results.json: the run is complete."""
        exchange.from_first(self.check_ours)
        self.log.flush()  # results.json says that all is there
        training, seconds = self.training, self.progress.seconds
        images = training.total * training.batch_size
        workdir.write_results(
            self.path,
            Results(
                run="train",
                protocol=protocol,
                model=training.card.model["name"],
                dataset=training.card.dataset,
                resolution=resolution(training.card.image_size),
                seed=training.seed,
                step=training.total,
                epochs=training.epochs,
                batch_size=training.batch_size,
                seconds=seconds,
                params=training.update.num_params,
                metrics=self.results,
                upstream=self.begun.upstream,
                images_per_second_per_device=images / seconds / training.mesh.size,
                device_days=seconds * training.mesh.size / 86400,
                precision=training.precision,
                fast_decode=training.reader.rows.decoding.fast,
                decoder=turbojpeg.decoder(),
                skipped_examples=self.batches.skipped_by_all(),
            ),
        )
        self.terminal.done(seconds, self.path / workdir.RESULTS)

"""`config.run="train"`: trains a model to its last step, resuming the run in the workdir if any."""

import dataclasses
import time
from collections.abc import Callable, Iterator

import jax
import psutil
from clu import parameter_overview
from etils import epath
from ml_collections import ConfigDict

from mixer.batch import Batch
from mixer.checkpoint import folders
from mixer.checkpoint.reading import newest_card
from mixer.checkpoint.store import Store
from mixer.data import sources, turbojpeg
from mixer.errors import BadInput
from mixer.hosts import exchange, holding, parting, peers, stopping
from mixer.runs import contact_sheet, curves, probe, resuming, start, workdir
from mixer.runs.checkpoints import Checkpoints, ResumePoint
from mixer.runs.evaluating import Evaluations
from mixer.runs.model import resolution
from mixer.runs.reader import Batches, print_sources
from mixer.runs.results import Results
from mixer.runs.terminal import Laps, Terminal
from mixer.runs.training import Training, build_training
from mixer.signals import StopSignal
from mixer.training import durations, loop, profile, writers
from mixer.training.metrics_log import MetricsLog
from mixer.training.progress import Progress
from mixer.training.step import TrainState


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Trains; returns when the run is complete, or has saved and stopped on a signal.

    Raises:
      BadInput: before anything is written.
      NonFinite: the loss or a norm became NaN or infinite; the last good checkpoint remains.
    """
    times = {"start and imports": time.time() - psutil.Process().create_time()}
    with stopping.stop_signal() as stop:
        train(config, output, protocol, stop, times)


def train(config: ConfigDict, output: str, protocol: str, stop: StopSignal, times: dict) -> None:
    """`run` with a `stop` already entered; `times`: seconds spent so far, by phase."""
    laps = Laps(times)
    config = start.with_upstream_model(config, output)
    path = workdir.unfinished(output, config)
    if path is None:
        return
    folder = path / "checkpoints"
    with parting.watch(folder, folders.newest):
        if config.probe.l2:
            return probe.carry_out(config, path, protocol, stop)
        # Build first: bad input is refused before anything is written.
        training = build_training(config, newest_card(path))
        exchange.from_first(lambda: writers.check(training.writers))
        exchange.same_work(training.total, training.examples)
        print_sources(training.readers, training.measured)
        if training.patience.metric:
            print(training.patience.rule(), flush=True)
        if trouble := exchange.first_error(training.unreadable()):
            raise BadInput(trouble)
        laps.lap("build")
        if training.update.teacher:
            training.update.teacher.load()
            laps.lap("load the teacher")
        created = None if folder.exists() else _create(training, laps)
        workdir.begin(path, config)
        with (
            holding.hold(path) as check_ours,
            Store(folder, **training.kept, first_message=exchange.first_error) as store,
        ):
            checkpoints = Checkpoints(training, path, store)
            if newest := checkpoints.newest():
                state, point = newest
                print(f"resuming from step {point.step:,} of {training.total:,}", flush=True)
                laps.lap("restore")
            else:
                state, point = created or _create(training, laps)
                _print_model(training)
            _train_from(point, state, training, path, checkpoints, check_ours, stop, laps, protocol)


def _create(training: Training, laps: Laps) -> tuple[TrainState, ResumePoint]:
    """The state at step 0."""
    params, upstream = training.initial()
    state = training.update.create_state(params)
    jax.block_until_ready(state)
    laps.lap("initialise")
    return state, ResumePoint(upstream=upstream)


def _print_model(training: Training) -> None:
    shapes = training.update.abstract_state().params
    print(parameter_overview.get_parameter_overview(shapes, include_stats=False, max_lines=12))
    print("\n".join([training.headline(), *training.update.rates()]))


def _train_from(
    point: ResumePoint,
    state: TrainState,
    training: Training,
    path: epath.Path,
    checkpoints: Checkpoints,
    check_ours: Callable[[], None],
    stop: StopSignal,
    laps: Laps,
    protocol: str,
) -> None:
    """Trains from `point` to the last step, and finishes the run unless it is stopped."""
    readers = [training.reader, *(r for e in training.evaluations for r in e.readers)]
    if any([reader.stage() for reader in readers]):
        laps.lap("stage")
    with (
        MetricsLog(
            path,
            point.lines,
            point.step,
            check_ours,
            training.writers,
            workdir.recorded(path),
        ) as log,
        Terminal(training, point.step) as terminal,
        # Threads start to read here, while the step compiles.
        training.reader.batches(point.step, training.total) as batches,
    ):
        laps.lap("writers")
        batches.skipped = 0 if peers.index() else point.skipped
        compiled = training.update.ready()
        laps.lap("compile")
        progress = training.progress(point.progress)
        session = _Session(
            training=training,
            path=path,
            checkpoints=checkpoints,
            check_ours=check_ours,
            point=point,
            stop=stop,
            laps=laps,
            log=log,
            terminal=terminal,
            batches=batches,
            progress=progress,
        )
        with profile.traced(compiled, training.profile, point.step, path / "profile") as train_step:
            _, reached = loop.run(
                state,
                train_step,
                session.showing_the_first(batches),
                session.hooks(),
                progress,
                stop,
                start=point.step,
                total=training.total,
                evaluation_due=point.evaluation_due,
            )
            checkpoints.wait()  # the next message says that the checkpoint is written
            if stop:
                terminal.stopped(stop.received, reached)
            else:
                session.finish(protocol, reached)


@dataclasses.dataclass
class _Session:
    """The hooks of the loop (log, evaluate, save), and the end of the run."""

    training: Training
    path: epath.Path
    checkpoints: Checkpoints
    check_ours: Callable[[], None]
    point: ResumePoint
    stop: StopSignal
    laps: Laps
    log: MetricsLog
    terminal: Terminal
    batches: Batches
    progress: Progress

    def __post_init__(self):
        training = self.training
        best = training.patience.metric
        self.evaluations = Evaluations(training.evaluations, best, training.total)
        self.results = resuming.still_measured(training, self.point.results)
        self.patience = training.patience.resumed(self.point.patience)
        self.is_first = True  # until the first step is done

    def hooks(self) -> loop.Hooks:
        """The functions that the loop calls, and the steps at which it calls them."""
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
            ended=lambda: self.patience.is_over,
        )

    def showing_the_first(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; the writers see the first of the whole run."""
        if not self.point.step:
            first, classes = next(batches), self.training.reader.source.classes
            self.log.image(0, "first_batch", lambda: contact_sheet.of_batch(first, classes))
            yield first
        yield from batches

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
        patience = self.patience

        def ends(value: float) -> bool:
            nonlocal patience
            if patience.limit:  # one host's sums may differ from another's in the last bit
                patience = patience.after(at, exchange.from_first(lambda: value))
            return patience.is_over

        metrics = self.evaluations.measure(at, state, self.stop.poll, ends)
        if metrics is not None:  # else the whole evaluation is repeated
            self.patience = patience
        if metrics:  # empty if the evaluator was removed after the step was saved
            self.results |= metrics
            self.log.write(at, metrics)
            self.terminal.measured(at, metrics)
        return metrics

    def _save(self, at: int, state: TrainState, metrics: dict | None, evaluation_due: bool) -> None:
        exchange.from_first(lambda: workdir.check_there(self.path))
        exchange.from_first(self.check_ours)
        self.log.flush()
        point = ResumePoint(
            step=at,
            progress=self.progress.state_dict(),
            results=self.results,
            lines=self.log.lines,
            upstream=self.point.upstream,
            evaluation_due=evaluation_due,
            skipped=self.batches.skipped_by_all(),
            patience=self.patience.state_dict(),
        )
        self.checkpoints.save(state, point, metrics)

    def finish(self, protocol: str, reached: int) -> None:
        """Writes results.json: the run is complete, after `reached` steps."""
        exchange.from_first(self.check_ours)
        self.log.flush()  # before results.json, which marks the run as complete
        training, seconds = self.training, self.progress.seconds
        images = reached * training.batch_size
        early = str(self.patience) if reached < training.total else None
        workdir.write_results(
            self.path,
            Results(
                run="train",
                protocol=protocol,
                model=training.card.model["name"],
                dataset=training.card.dataset,
                resolution=resolution(training.card.image_size),
                seed=training.seed,
                step=reached,
                epochs=images / sources.epoch(training.reader.source),
                batch_size=training.batch_size,
                seconds=seconds,
                params=training.update.num_params,
                metrics=self.results,
                upstream=self.point.upstream,
                teacher=training.teacher,
                images_per_second_per_device=images / seconds / training.mesh.size,
                device_days=seconds * training.mesh.size / 86400,
                mesh=dict(training.mesh.shape),
                precision=training.precision,
                fast_decode=training.reader.rows.decoding.fast,
                decoder=turbojpeg.decoder(),
                skipped_examples=self.batches.skipped_by_all(),
                ended_early=early,
            ),
        )
        self.log.finish(self.results)
        curves.write(self.path)
        self.terminal.done(seconds, self.path / workdir.RESULTS, reached, early)

"""`config.run="train"`: trains, or goes on with, the run in the workdir until it is complete."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable

import jax
import psutil
from clu import parameter_overview
from etils import epath
from ml_collections import ConfigDict

from mixer.checkpoint.pretrained import newest_card
from mixer.checkpoint.store import Store
from mixer.errors import BadInput, Failure
from mixer.runs import agreement, distributed, holding, resuming, workdir
from mixer.runs.evaluations import Evaluation
from mixer.runs.model import resolution
from mixer.runs.reader import say_what_is_read
from mixer.runs.results import Results
from mixer.runs.training import Training, build_training
from mixer.training import loop, profile, step
from mixer.training.signals import StopSignal
from mixer.training.writers import Console, MetricsLog, clock


def run(config: ConfigDict, output: str, protocol: str) -> None:
    """Trains; returns when the run is complete or was stopped after saving.

    Raises:
      BadInput: before anything is written.
      NonFinite: the last good checkpoint stands.
    """
    times = {"start and imports": time.time() - psutil.Process().create_time()}
    with distributed.stop_signal() as stop:
        train(config, output, protocol, stop, times)


def train(config: ConfigDict, output: str, protocol: str, stop: StopSignal, times: dict) -> None:
    """`run` under a `stop` that is entered; `times`: seconds until now, by what they went into."""
    began = time.perf_counter()
    path = workdir.unfinished(output, config)
    if path is None:
        return
    checkpoints = path / "checkpoints"
    with distributed.watch(checkpoints):
        training = build_training(config, newest_card(path))
        agreement.same_work(training)
        say_what_is_read(training.readers, training.measured)
        if trouble := agreement.first_trouble(training.unreadable()):
            raise BadInput(trouble)
        times["build"] = time.perf_counter() - began
        created = None if checkpoints.exists() else _create(training, times)
        workdir.begin(path, config)
        kept = {"keep": training.keep_checkpoints, "best": training.best}
        with (
            holding.hold(path) as check_ours,
            Store(checkpoints, **kept, together=agreement.first_trouble) as store,
        ):
            _Session(training, path, store, check_ours, stop, protocol, times).run(created)


def _create(training: Training, times: dict) -> tuple[step.TrainState, dict | None]:
    """A state at step 0, and what its parameters come from."""
    began = time.perf_counter()
    params, upstream = training.initial()
    state = training.update.create_state(params)
    jax.block_until_ready(state)
    times["initialise"] = time.perf_counter() - began
    return state, upstream


class _Session:
    """One process's part of a run, from the first or the restored step on."""

    def __init__(
        self,
        training: Training,
        path: epath.Path,
        store: Store,
        check_ours: Callable[[], None],
        stop: StopSignal,
        protocol: str,
        times: dict[str, float],
    ):
        self.training, self.path, self.store, self.stop = training, path, store, stop
        self.check_ours, self.protocol = check_ours, protocol
        self.results: dict[str, float] = {}
        self.times = times  # seconds from the command to the first step, by what they went into
        self.first: float | None = None  # when compiling ended, until the first step is done

    def run(self, created: tuple[step.TrainState, dict | None] | None) -> None:
        training = self.training
        clock = time.perf_counter()
        state, meta = self._restore_or_create(created)
        if meta["step"]:
            clock = self._lap("restore", clock)
        start, self.upstream = meta["step"], meta["upstream"]
        self.results = resuming.still_measured(training, meta["results"])
        measured = [reader for e in training.evaluations for reader in e.readers]
        if any([reader.stage() for reader in (training.reader, *measured)]):
            clock = self._lap("stage", clock)
        with contextlib.ExitStack() as stack:
            log = MetricsLog(self.path, meta["lines"], start, self.check_ours)
            self.log = stack.enter_context(log)
            self.console = Console(training.total, start)
            stack.callback(self.console.close)
            # Threads begin to read here, beside the compilation.
            self.batches = stack.enter_context(training.reader.batches(start, training.total))
            self.batches.skipped = 0 if distributed.index() else meta["skipped"]
            compiled = training.update.compile()
            self.first = self._lap("compile", clock)
            self.progress = training.progress(meta["progress"])
            train_step = stack.enter_context(
                profile.traced(
                    step.guarded(compiled), training.profile, start, self.path / "profile"
                )
            )
            state, reached = loop.run(
                state,
                train_step,
                self.batches,
                self._hooks(),
                self.progress,
                self.stop,
                start=start,
                total=training.total,
                evaluation_due=meta["evaluation_due"],
            )
            self.store.wait()  # what is said from here on holds: the checkpoint is written
            if self.stop:
                self._say_stopped(reached)
            else:
                self._finish()

    def _hooks(self) -> loop.Hooks:
        return loop.Hooks(
            log=self._log,
            evaluate=self._evaluate,
            save=self._save,
            tick=self._tick,
            log_at=_every(self.training.log_every, self.training.total),
            evaluate_at=lambda at: bool(self._due(at)),
            save_at=_every(self.training.checkpoint_every, self.training.total),
            choose_at=self._choose_at,
        )

    def _lap(self, name: str, since: float) -> float:
        now = time.perf_counter()
        self.times[name] = now - since
        return now

    def _restore_or_create(self, created) -> tuple[step.TrainState, dict]:
        training = self.training
        abstract = training.update.abstract_state()
        found = self.store.restore_newest(
            abstract.items(),
            print,
            lambda meta: resuming.check_data(self.path, training, meta["data"]),
        )
        if found is not None:
            items, meta = found
            resuming.check_total(self.path, meta["step"], training.total)
            print(f"going on from step {meta['step']:,} of {training.total:,}", flush=True)
            return step.TrainState.of_items(items, meta["step"], training.mesh), meta
        state, upstream = created or _create(training, self.times)
        print(
            parameter_overview.get_parameter_overview(
                abstract.params, include_stats=False, max_lines=12
            )
        )
        print("\n".join([training.headline(), *training.update.rates()]))
        meta = {"step": 0, "results": {}, "lines": 0, "progress": {}, "evaluation_due": False}
        return state, meta | {"upstream": upstream, "skipped": 0}

    def _due(self, at: int) -> list[Evaluation]:
        return [e for e in self.training.evaluations if _every(e.every, self.training.total)(at)]

    def _choose_at(self, at: int) -> bool:
        best = self.training.best.partition("/")[0].removesuffix("_ema")
        return any(evaluation.name == best for evaluation in self._due(at))

    def _tick(self, at: int, metrics: dict[str, float]) -> None:
        if self.first is not None:
            self.progress.drain()
            self._lap("first batch and step", self.first)
            parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.times.items())
            self.console.line(f"first step after {sum(self.times.values()):.1f} s: {parts}")
            self.first = None
        self.console.tick(at, metrics)

    def _log(self, at: int, summary: dict[str, float]) -> None:
        epoch = at * self.training.epochs / self.training.total
        if self.training.reader.rows.skip_bad:
            summary = summary | {"skipped_examples": self.batches.skipped_by_all()}
        self.log.write(at, {"epoch": epoch} | summary)
        left = (self.training.total - at) * self.training.batch_size
        rate = summary["images_per_second_per_device"] * self.training.mesh.size
        self.console.line(
            f"step {at:,}/{self.training.total:,}  epoch {epoch:.1f}"
            f"  loss {summary.get('train/loss', math.nan):.4f}"
            f"  accuracy {summary.get('train/accuracy', math.nan):.3f}"
            f"  lr {summary['train/learning_rate']:.2e}"
            f"  {summary['images_per_second_per_device']:,.0f} img/s/device"
            f"  data wait {summary['data_wait_share']:.1%}  left {clock(left / rate)}"
        )

    def _evaluate(self, at: int, state: step.TrainState) -> dict[str, float] | None:
        metrics = {}
        for evaluation in self._due(at):
            kinds = {evaluation.name: state.params}
            if state.ema is not None:
                kinds[f"{evaluation.name}_ema"] = state.ema
            for name, params in kinds.items():
                measured = evaluation.measure(params, self.stop.poll)
                if measured is None:
                    return None
                metrics |= {f"{name}/{key}": value for key, value in measured.items()}
        if self._choose_at(at) and self.training.best not in metrics:
            raise Failure(
                f"config.best={self.training.best} was not measured, see above: choose another of "
                f"{', '.join(metrics)}"
            )
        if not metrics:  # its evaluator was taken away since the step was saved
            return metrics
        self.results |= metrics
        self.log.write(at, metrics)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self.console.line(f"step {at:,}  {shown}")
        return metrics

    def _save(
        self, at: int, state: step.TrainState, metrics: dict | None, evaluation_due: bool
    ) -> None:
        agreement.from_first(lambda: workdir.check_there(self.path))
        training = self.training
        agreement.from_first(self.check_ours)
        self.log.flush()
        progress = self.progress.state_dict()
        meta = {
            "card": dataclasses.asdict(training.card),
            "progress": progress,
            "results": self.results,
            "lines": self.log.lines,
            "data": training.examples,
            "upstream": self.upstream,
            "evaluation_due": evaluation_due,
            "skipped": self.batches.skipped_by_all(),
            "epochs": at * training.epochs / training.total,
            "device_days": progress["seconds"] * training.mesh.size / 86400,
        }
        self.store.save(at, state.items(), meta, metrics)

    def _say_stopped(self, reached: int) -> None:
        where = f"saved step {reached:,} of {self.training.total:,}" if reached else "nothing done"
        self.console.line(f"stopped by {self.stop.received}: {where}; the same command goes on")

    def _finish(self) -> None:
        agreement.from_first(self.check_ours)
        self.log.flush()  # results.json says that all is there
        training = self.training
        seconds = self.progress.seconds
        images = training.total * training.batch_size
        workdir.write_results(
            self.path,
            Results(
                run="train",
                protocol=self.protocol,
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
                upstream=self.upstream,
                images_per_second_per_device=images / seconds / training.mesh.size,
                device_days=seconds * training.mesh.size / 86400,
                precision=training.precision,
                fast_decode=training.reader.rows.decoding.fast,
                skipped_examples=self.batches.skipped_by_all(),
            ),
        )
        self.console.line(f"done in {clock(seconds)}: {self.path / workdir.RESULTS}")


def _every(steps: int, total: int) -> Callable[[int], bool]:
    return lambda step: step > 0 and (step % steps == 0 or step == total)

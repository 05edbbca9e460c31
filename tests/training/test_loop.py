import itertools
import math
import time

import jax.numpy as jnp
import pytest

from mixer.training import loop
from mixer.training.nonfinite import NonFinite
from mixer.training.progress import Progress


def metrics(loss):
    """Metrics of a step whose gradient norm equals its loss: both finite or both not."""
    numbers = {"loss": loss, "accuracy": 0, "learning_rate": 1, "grad_norm": loss, "param_norm": 2}
    return {name: jnp.float32(value) for name, value in numbers.items()}


class Stop(list):
    """A stop signal that is set by appending to it."""

    def poll(self):
        return bool(self)


class Recorder:
    """A fake run: the state is a number, and a step adds the batch to it."""

    def __init__(self, total=10, log=4, evaluate=5, save=3, stop=None, losses=None, choose=False):
        self.events, self.stop, self.total = [], Stop(stop or ()), total
        self.losses = losses or itertools.repeat(1.0)
        self.every = lambda n: lambda s: s > 0 and (s % n == 0 or s == total)
        self.log, self.evaluate, self.save = log, evaluate, save
        self.interrupt_evaluation, self.failure, self.choose = False, None, choose
        self.progress = Progress(2, 1)

    def run(self, state=0, start=0, due=False):
        def evaluate(at, state):
            if self.failure:
                raise self.failure
            if self.interrupt_evaluation:
                self.stop.append(1)
                return None
            self.events.append(("eval", at))
            return {"v": state}

        hooks = loop.Hooks(
            log=lambda at, summary: self.events.append(("log", at)),
            evaluate=evaluate,
            save=lambda at, s, m, missing: self.events.append(("save", at, m is not None, missing)),
            tick=lambda at, m: None,
            log_at=self.every(self.log),
            evaluate_at=self.every(self.evaluate),
            save_at=self.every(self.save),
            choose_at=lambda at: self.choose,
        )
        losses = iter(self.losses)
        return loop.run(
            state,
            lambda s, b: (s + b, metrics(next(losses))),
            iter(range(start, self.total)),
            hooks,
            self.progress,
            self.stop,
            start=start,
            total=self.total,
            evaluation_due=due,
        )


def test_order_of_events():
    recorder = Recorder()
    assert recorder.run() == (sum(range(10)), 10)
    assert recorder.events == [
        ("save", 3, False, False),
        ("log", 4),
        ("save", 5, False, True),
        ("eval", 5),
        ("save", 6, False, False),
        ("log", 8),
        ("save", 9, False, False),
        ("log", 10),
        ("save", 10, False, True),
        ("eval", 10),
    ]


def test_with_config_best_a_checkpoint_is_saved_again_with_its_metrics():
    plain, choosing = Recorder(), Recorder(choose=True)
    plain.run(), choosing.run()
    with_metrics = [("save", 5, True, False), ("save", 10, True, False)]
    assert [event for event in choosing.events if event not in plain.events] == with_metrics
    for event in with_metrics:
        at = choosing.events.index(event)
        assert choosing.events[at - 1] == ("eval", event[1])


def test_a_failed_evaluation_loses_no_step():
    recorder = Recorder(evaluate=4)
    recorder.failure = OSError("damaged")
    with pytest.raises(OSError, match="damaged"):
        recorder.run()
    assert recorder.events[-1] == ("save", 4, False, True)
    again = Recorder(evaluate=4)
    assert again.run(sum(range(4)), start=4, due=True) == (sum(range(10)), 10)
    assert again.events[0] == ("eval", 4)


def test_a_stop_saves_the_step_in_which_it_arrives():
    recorder = Recorder()
    recorder.losses = (recorder.stop.append(1) or 1.0 if t == 6 else 1.0 for t in range(10))
    state, reached = recorder.run()
    assert reached == 7 and state == sum(range(7))
    assert recorder.events[-1] == ("save", 7, False, False)


def test_a_stop_before_the_first_step_saves_nothing():
    recorder = Recorder(stop=[1])
    assert recorder.run() == (0, 0)
    assert recorder.events == []


def test_an_evaluation_that_a_stop_interrupts_is_done_after_resuming():
    recorder = Recorder()
    recorder.interrupt_evaluation = True
    state, reached = recorder.run()
    assert reached == 5 and recorder.events[-1] == ("save", 5, False, True)
    again = Recorder()
    assert again.run(state, start=5, due=True) == (sum(range(10)), 10)
    assert again.events[:2] == [("eval", 5), ("save", 6, False, False)]
    whole = Recorder()
    whole.run()
    kinds = lambda events: [e[:2] for e in events if e[0] == "eval"]
    assert kinds(recorder.events) + kinds(again.events) == kinds(whole.events)


def test_a_non_finite_loss_ends_the_run_and_is_not_saved():
    for value in (math.nan, math.inf):
        recorder = Recorder(losses=[1.0] * 5 + [value] + [1.0] * 9)
        with pytest.raises(NonFinite, match="at step 6"):
            recorder.run()
        assert all(event[1] < 6 for event in recorder.events)


def test_skipped_updates_count_in_no_mean_and_too_many_in_a_row_end_the_run():
    first = Progress(4, 2, max_skipped=2)
    for step, loss in enumerate((3.0, math.nan, math.inf, 5.0, math.nan), 1):
        first.add(step, metrics(loss))
    state = first.state_dict()
    assert first.summary()["train/loss"] == 4.0
    resumed = Progress(4, 2, state, max_skipped=2)
    resumed.add(6, metrics(math.nan))
    resumed.drain()
    assert resumed.summary()["skipped_updates"] == 4
    resumed.add(7, metrics(math.nan))
    with pytest.raises(NonFinite, match="the loss became nan at step 7"):
        resumed.drain()


def test_non_finite_parameters_end_the_run():
    progress = Progress(4, 2, max_skipped=5)
    progress.add(1, metrics(math.nan) | {"param_norm": jnp.float32(math.inf)})
    with pytest.raises(NonFinite):
        progress.drain()


def test_means_of_a_window_survive_a_restart():
    first = Progress(4, 2)
    for step in range(1, 4):
        first.add(step, metrics(step))
    before = first.state_dict() | {"seconds": 100.0}
    resumed = Progress(4, 2, before)
    for step in range(4, 6):
        resumed.add(step, metrics(step))
    summary = resumed.summary()
    assert summary["train/loss"] == 3.0
    assert resumed.seconds > 100
    resumed.add(6, metrics(7.0))
    assert resumed.summary()["train/loss"] == 7.0


def test_times_of_a_window_add_up(monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    progress = Progress(4, 2, flops=3 * 10**12, peak=1e14)

    def step(at):
        nonlocal now
        now += 1  # for the batch
        progress.waited(1)
        now += 3  # the step itself
        progress.add(at, metrics(1))

    for at in (1, 2):
        step(at)
        with progress.spent_on("evaluation"):
            now += 10
    with progress.spent_on("checkpoint"):
        now += 5
    expected = {"compute": 6, "data_wait": 2, "evaluation": 20, "checkpoint": 5}
    summary = progress.summary()
    assert summary == summary | {f"seconds/{what}": s for what, s in expected.items()}
    assert summary["data_wait_share"] == 2 / 8
    rate = 2 * 4 / 8 / 2  # images a second and device, evaluation and checkpoint aside
    assert summary["images_per_second_per_device"] == rate
    assert summary["tflops_per_second_per_device"] == 3 * rate
    assert summary["mfu"] == pytest.approx(0.03 * rate)
    step(3)
    assert progress.summary()["seconds/compute"] == 3
    assert "mfu" not in summary_of(Progress(4, 2, flops=1))
    assert "tflops_per_second_per_device" not in summary_of(Progress(4, 2))


def summary_of(progress):
    progress.add(1, metrics(1))
    return progress.summary()

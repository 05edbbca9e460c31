import numpy as np
import optax
import pytest

from mixer import errors
from mixer.training import durations, schedules


def rates(total, **kwargs):
    schedule = schedules.make_schedule(total=total, **kwargs)
    return np.array([float(schedule(np.int32(t))) for t in range(total + 1)])


def closed_form(decay, base, end, warmup, total):
    t = np.arange(total + 1.0)
    part = np.clip((t - warmup) / (total - warmup), 0, 1)
    shape = {"linear": 1 - part, "cosine": (1 + np.cos(np.pi * part)) / 2, "constant": 1 + 0 * t}
    decayed = base if decay == "constant" else end + (base - end) * shape[decay]
    return decayed * np.minimum(1, t / warmup)


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_schedules_against_closed_form(decay):
    got = rates(50, decay=decay, base=3e-3, end=1e-5, warmup=10)
    np.testing.assert_allclose(got, closed_form(decay, 3e-3, 1e-5, 10, 50), rtol=1e-5)
    assert got[0] == 0 and got[10] == pytest.approx(3e-3)


def test_the_exponential_decay_is_optax_s_and_ends_at_its_end():
    got = rates(50, decay="exponential", base=3e-3, end=1e-5, warmup=10)
    want = optax.exponential_decay(3e-3, 40, 1e-5 / 3e-3)
    np.testing.assert_allclose(got[10:], [float(want(t)) for t in range(41)], rtol=1e-5)
    assert got[50] == pytest.approx(1e-5)
    np.testing.assert_allclose(got[:11], got[10] * np.linspace(0, 1, 11), rtol=1e-5)


def test_the_reciprocal_square_root_is_big_vision_s_and_knows_no_total():
    """lr / sqrt(1 + (t - warmup) / timescale), times the warm-up's share, as in big_vision."""
    got = rates(50, decay="rsqrt", base=0.1, warmup=8, timescale=5)
    t = np.arange(51.0)
    want = 0.1 / np.sqrt(1 + np.maximum(t - 8, 0) / 5) * np.minimum(1, t / 8)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(got[13], 0.1 / np.sqrt(2), rtol=1e-6)
    longer = rates(80, decay="rsqrt", base=0.1, warmup=8, timescale=5)
    np.testing.assert_array_equal(longer[:51], got)


def test_end_is_an_absolute_learning_rate():
    assert rates(20, decay="linear", base=1e-3, end=1e-5, warmup=0)[20] == pytest.approx(1e-5)


@pytest.mark.parametrize("decay", ["linear", "constant", "rsqrt", "exponential"])
def test_cooldown_is_linear_to_zero(decay):
    plain = rates(100, decay=decay, base=1.0, end=0.1, warmup=10)
    cooled = rates(100, decay=decay, base=1.0, end=0.1, warmup=10, cooldown=20)
    np.testing.assert_allclose(cooled[:81], plain[:81], rtol=1e-6)
    np.testing.assert_allclose(cooled[80:], plain[80] * np.linspace(1, 0, 21), atol=1e-6)


def test_bad_schedules_are_refused():
    with pytest.raises(errors.BadInput, match="'cosin'. Did you mean 'cosine'"):
        schedules.make_schedule("cosin", base=1, end=0, warmup=0, total=10)
    with pytest.raises(errors.BadInput, match="8 steps of warm-up and 3 of cooldown in 10 steps"):
        schedules.make_schedule("linear", base=1, end=0, warmup=8, total=10, cooldown=3)
    for ends in ({"base": 1, "end": 0}, {"base": 0, "end": 1}):
        with pytest.raises(errors.BadInput, match="expected two rates above 0"):
            schedules.make_schedule("exponential", **ends, warmup=0, total=10)


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        ("10_000 steps", 10_000),
        ("1 step", 1),
        ("300 epochs", 92_897),  # table 4's ImageNet row: 99 % of the training set, batch 4,096
        ("0.5 epochs", 155),
        ("1e6 examples", 244),
        ("1,024 examples", 1),
        ("0 epochs", 0),
    ],
)
def test_durations(duration, steps):
    assert durations.to_steps(duration, 4096, 1_268_355, "total") == steps


@pytest.mark.parametrize(
    "duration", ["10", "ten epochs", "-1 steps", "5 minutes", "1 epochs 2 steps"]
)
def test_bad_durations_are_refused(duration):
    with pytest.raises(errors.BadInput, match="config.total=.*'300 epochs'"):
        durations.to_steps(duration, 64, 1000, "total")

"""The search for the best batch size, and where it ends."""

import itertools

import jax
import pytest

from mixer.benchmark import throughput
from mixer.errors import BadInput
from mixer.planning import peaks


def doubled():
    return (2**i for i in itertools.count())


def memory_for(largest, calls):
    def prepare(batch_size):
        if batch_size > largest:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
        return lambda: calls.append(batch_size)

    return prepare


def test_the_search_ends_when_memory_is_full():
    calls = []
    found = list(throughput.rates(memory_for(8, calls), doubled(), calls=3, timeout=60))
    assert [rate.batch_size for rate in found] == [1, 2, 4, 8]
    assert all(len(rate.seconds) == 3 for rate in found)
    # One call that may compile, those that warm up, those that are measured.
    assert calls.count(8) == 1 + throughput.WARM_UP + 3


def test_other_errors_are_raised():
    def prepare(batch_size):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        list(throughput.rates(prepare, doubled(), calls=3, timeout=60))


def test_a_batch_size_that_takes_longer_than_the_timeout_is_the_last(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])

    def prepare(batch_size):
        def call():
            now[0] += batch_size

        return call

    found = list(throughput.rates(prepare, doubled(), calls=30, timeout=5.0))
    assert [rate.batch_size for rate in found] == [1, 2, 4, 8]
    assert [len(rate.seconds) for rate in found] == [5, 3, 2, 1]


def test_rates_are_medians():
    rate = throughput.Rate(12, [1.0, 2.0, 6.0])
    assert rate.images_per_second == 6 and rate.spread == (2, 12)


def test_accelerators_by_product_name():
    core, count = peaks.by_product_name("v3-8")
    assert (core.flops, count) == (61.5e12, 8)  # 123 TFLOP/s a chip of two cores
    assert peaks.by_product_name("H100")[1] == 1 and peaks.by_product_name("v5e-16")[1] == 16
    for name in ("v9-8", "v3-0", "v3-x"):
        with pytest.raises(BadInput, match="unknown accelerator"):
            peaks.by_product_name(name)

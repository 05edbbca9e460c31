"""Memory traffic of compiled programs, against arithmetic and XLA's own count."""

import jax
import jax.numpy as jnp
import pytest

import mixer
from mixer.planning import traffic


def compiled(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*args).compile()


def accessed(function, *shapes):
    return traffic.accessed(compiled(function, *shapes).as_text())


def test_operands_are_read_and_results_written():
    assert accessed(lambda a, b: a + b, (8, 16), (8, 16)) == 3 * 8 * 16 * 4
    assert accessed(lambda a, b: a @ b, (8, 16), (16, 32)) == 4 * (8 * 16 + 16 * 32 + 8 * 32)
    # What happens inside a fusion costs nothing.
    assert accessed(lambda a: jnp.tanh(a) * 2 + 1, (64, 64)) == 2 * 64 * 64 * 4


def test_a_slice_costs_its_own_size():
    sliced = accessed(lambda a, i: jax.lax.dynamic_slice_in_dim(a, i.astype(int)[0], 4) * 2,
                      (1000, 64), (1,))  # fmt: skip
    assert 2 * 4 * 64 * 4 <= sliced < 4 * 4 * 64 * 4


@pytest.mark.parametrize("trips", [5, 20])
def test_a_loop_counts_as_often_as_it_runs(trips):
    def chain(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    once = 4 * (64 * 64 + 2 * 8 * 64)  # a weight is read, x is read and written
    found = accessed(chain, (8, 64), (trips, 64, 64))
    assert trips * once < found < 4 * trips * once


def test_without_loops_it_is_nearly_xlas_count():
    model = mixer.create_model("Mixer-S/16", num_classes=10, num_blocks=2, hidden_dim=64)
    images = jnp.zeros((4, 64, 64, 3))
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]

    def loss(params, images):
        return (model.apply({"params": params}, images) ** 2).sum()

    program = jax.jit(jax.grad(loss)).lower(params, images).compile()
    xlas = program.cost_analysis()["bytes accessed"]
    assert traffic.accessed(program.as_text()) == pytest.approx(xlas, rel=0.15)


def test_arrays_on_the_chip_are_free():
    text = """HloModule m

ENTRY %main (a: f32[256,256], b: f32[256,256]) -> f32[256,256] {
  %a = f32[256,256]{1,0:T(8,128)} parameter(0)
  %b = f32[256,256]{1,0:T(8,128)} parameter(1)
  %start = (f32[256,256]{1,0:T(8,128)S(1)}, f32[256,256]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%a)
  %here = f32[256,256]{1,0:T(8,128)S(1)} copy-done(%start)
  ROOT %sum = f32[256,256]{1,0:T(8,128)} add(%here, %b)
}
"""
    # a is read when it is copied, b by the sum, which is written.
    assert traffic.accessed(text) == 3 * 256 * 256 * 4

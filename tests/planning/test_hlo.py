import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mixer.planning import hlo


def program(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return hlo.read(jax.jit(function).lower(*args).compile().as_text())


def test_products_in_loops():
    assert program(lambda a, b: a @ b, (8, 16), (16, 32)).macs == 8 * 16 * 32
    batched = program(lambda a, b: jnp.einsum("nij,njk->nik", a, b), (3, 8, 16), (3, 16, 32))
    assert batched.macs == 3 * 8 * 16 * 32

    def loop(x, w):
        inner = lambda x, _: (jnp.tanh(x @ w[0]), None)
        outer = lambda x, w: (jax.lax.scan(inner, x, length=3)[0] @ w, None)
        return jax.lax.scan(outer, x, w)[0]

    assert program(loop, (8, 16), (5, 16, 16)).macs == 5 * (3 + 1) * 8 * 16 * 16


def taps_by_hand(size, kernel, stride, low, high, dilation):
    """Products of one output channel with one input channel, without padding and dilation zeros."""
    holes = np.zeros((size - 1) * dilation + 1)
    holes[::dilation] = 1
    line = np.pad(holes, (low, high))
    starts = range(0, len(line) - kernel + 1, stride)
    return sum(line[s : s + kernel].sum() for s in starts) ** 2


@pytest.mark.parametrize(
    ("kernel", "stride", "low", "high", "dilation"),
    [(3, 1, 1, 1, 1), (3, 2, 1, 1, 1), (2, 2, 0, 0, 1), (3, 1, 2, 2, 2)],
)
def test_convolutions_count_only_taps_on_the_input(kernel, stride, low, high, dilation):
    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride,) * 2,
            [(low, high)] * 2,
            lhs_dilation=(dilation,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    found = program(convolve, (2, 7, 7, 3), (kernel, kernel, 3, 5)).macs
    assert found == 2 * 3 * 5 * taps_by_hand(7, kernel, stride, low, high, dilation)


def test_a_convolution_in_groups():
    def convolve(x, w):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, w, (1, 1), "VALID", dimension_numbers=numbers, feature_group_count=4
        )

    assert program(convolve, (2, 8, 8, 16), (3, 3, 4, 8)).macs == 2 * 6 * 6 * 9 * 4 * 8


def test_bytes_sent_between_devices():
    mesh = jax.make_mesh((2, 4), ("a", "b"), (AxisType.Auto,) * 2)
    place = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=place(None, "b"))
    gathered = jax.jit(lambda x: x * 2, out_shardings=place()).lower(x).compile()
    (each,) = hlo.read(gathered.as_text()).collectives
    assert (each.kind, each.size, each.devices, each.times) == ("all-gather", 16 * 32 * 4, 4, 1)
    assert each.sent == 16 * 32 * 4 * 3 / 4
    w = jax.ShapeDtypeStruct((32, 8), jnp.float32, sharding=place("b", None))
    summed = jax.jit(jnp.matmul, out_shardings=place()).lower(x, w).compile()
    found = hlo.read(summed.as_text())
    assert found.sent() == {"all-reduce": 2 * 3 / 4 * 16 * 8 * 4}
    assert found.macs == 16 * 8 * 8  # a fourth of the inner dimension


# As the TPU's compiler writes: a loop that counts by 2 to 8, without its number of trips; a
# reduce-scatter as a fusion; one gather that is spread over two fusions.
TPU = """HloModule jit_step, is_scheduled=true

%all-reduce-scatter.1 (p.0: bf16[64,32]) -> bf16[8,32] {
  %p.0 = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  %all-reduce.1 = bf16[64,32]{1,0} all-reduce(%p.0), channel_id=1, GROUPS, to_apply=%add
  ROOT %slice = bf16[8,32]{1,0} dynamic-slice(%all-reduce.1, %p.0), dynamic_slice_sizes={8,32}
}

%gather_a (p.1: bf16[8,32]) -> bf16[64,32] {
  %p.1 = bf16[8,32]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[64,32]{1,0} all-gather(%p.1), channel_id=2, MESH, dimensions={0}
}

%gather_b (p.2: bf16[8,32]) -> bf16[64,32] {
  %p.2 = bf16[8,32]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[64,32]{1,0} all-gather(%p.2), channel_id=2, MESH, dimensions={0}
}

%body (p.3: (s32[], bf16[4,16])) -> (s32[], bf16[4,16]) {
  %p.3 = (s32[]{:T(128)}, bf16[4,16]{1,0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p.3), index=0
  %x = bf16[4,16]{1,0} get-tuple-element(%p.3), index=1
  %two = s32[]{:T(128)} constant(2)
  %w = bf16[16,16]{1,0} constant({...})
  %y = bf16[4,16]{1,0} convolution(%x, %w), dim_labels=bf_io->bf
  %next = s32[]{:T(128)} add(%i, %two)
  ROOT %out = (s32[]{:T(128)}, bf16[4,16]{1,0}) tuple(%next, %y)
}

%condition (p.4: (s32[], bf16[4,16])) -> pred[] {
  %p.4 = (s32[]{:T(128)}, bf16[4,16]{1,0}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%p.4), index=0
  %eight = s32[]{:T(128)} constant(8)
  ROOT %less = pred[]{:T(512)} compare(%j, %eight), direction=LT
}

ENTRY %main (a: bf16[64,32], b: (s32[], bf16[4,16])) -> (s32[], bf16[4,16]) {
  %a = bf16[64,32]{1,0} parameter(0)
  %b = (s32[]{:T(128)}, bf16[4,16]{1,0}) parameter(1)
  %part = bf16[8,32]{1,0} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
  %begin = bf16[64,32]{1,0} fusion(%part), kind=kLoop, calls=%gather_a
  %end = bf16[64,32]{1,0} fusion(%part), kind=kLoop, calls=%gather_b
  ROOT %loop = (s32[]{:T(128)}, bf16[4,16]{1,0}) while(%b), condition=%condition, body=%body
}
""".replace("GROUPS", "replica_groups=[2,8]<=[16]").replace(
    "MESH", "replica_groups=mesh['axis_0'=2,'axis_1'=8] {'axis_1'}"
)


def test_programs_of_the_tpu_compiler():
    found = hlo.read(TPU)
    assert found.macs == 4 * (4 * 16 * 16)
    whole = 64 * 32 * 2
    assert found.sent() == {"reduce-scatter": whole * 7 / 8, "all-gather": whole * 7 / 8}
    assert found.counts() == {"reduce-scatter": 1, "all-gather": 1}
    with pytest.raises(ValueError, match="y is in a loop of unknown length"):
        hlo.read(TPU.replace("direction=LT", "direction=NE"))


@pytest.mark.parametrize(
    ("kind", "shape", "numbers"),
    [
        ("all-reduce", "(f32[100], f32[160])", 260),
        ("all-gather", "(f32[20], f32[160]{0})", 160),
        ("all-gather", "((f32[20], f32[10]{0}), (f32[160]{0:T(128)}, f32[80]))", 240),
        ("collective-permute", "(f32[20], f32[20], u32[], u32[])", 20),
    ],
)
def test_asynchronous_collectives(kind, shape, numbers):
    """In programs for GPUs they have a start, whose shape also holds the operands, and an end."""
    found = hlo.read(
        "ENTRY %main (a: f32[20]) -> f32[20] {\n"
        "  %a = f32[20]{0} parameter(0)\n"
        f"  %begin = {shape} {kind}-start(%a), channel_id=1, replica_groups=[1,8]<=[8]\n"
        f"  %end = f32[20]{{0}} {kind}-done(%begin)\n"
        "}"
    )
    (each,) = found.collectives
    assert (each.kind, each.size, each.times) == (kind, 4 * numbers, 1)

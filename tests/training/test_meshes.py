"""The same training run on every mesh, with every strategy, and in micro-batches."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

import mixer
from mixer import errors
from mixer.models.mixer import Mixer
from mixer.planning import flops, hlo
from mixer.training import losses, meshes, optimizer, placement, schedules, step
from mixer.training.mixing import Mixing

SIZE, BATCH, STEPS, BOTH = (16, 16), 32, 20, Mixing(0.5, 1.0)
MODEL = Mixer(
    num_classes=8,
    patch_size=4,
    num_blocks=2,
    hidden_dim=32,
    tokens_mlp_dim=16,
    channels_mlp_dim=64,
    dropout=0.1,
    stochastic_depth=0.2,
)


def host_batch(t):
    """Images that are brighter the larger their class number is."""
    rng = np.random.default_rng(t)
    label = rng.integers(0, 8, BATCH).astype(np.int32)
    image = rng.integers(0, 100, (BATCH, *SIZE, 3)) + 18 * label[:, None, None, None]
    return {"image": image.astype(np.uint8), "label": label, "mask": np.ones(BATCH, bool)}


def made(mesh, rules, micro_batches=1, model=MODEL, mixing=BOTH):
    """(compiled step, initial state, sharding of batches)."""
    schedule = schedules.make_schedule("linear", base=3e-3, end=0, warmup=2, total=STEPS)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SIZE, 3)))["params"]
    # Where a gradient is all but zero, Adam's own eps would make rounding as large as a gradient.
    name = "adam(eps=1e-6)"
    chain = optimizer.make_optimizer(name, shapes, schedule, weight_decay=0.1, clip_norm=1.0)
    init = lambda p: step.init_state(model, chain, SIZE, seed=0, ema=True, params=p)
    state = step.create_state(mesh, init, None, rules)
    train_step = step.make_step(
        model,
        losses.softmax_xent,
        chain,
        schedule,
        seed=0,
        mixing=mixing,
        ema_decay=0.9,
        micro_batches=micro_batches,
        mesh=mesh,
        rules=rules,
    )
    place = meshes.batch_sharding(mesh)
    batch = meshes.put(host_batch(0), place, BATCH)
    return step.compile_step(train_step, state, mesh, batch), state, place


@functools.cache
def trained(sizes, strategy, devices=8, steps=STEPS, **kwargs):
    mesh = meshes.make_mesh(*sizes, devices=jax.devices()[:devices])
    compiled, state, place = made(mesh, placement.STRATEGIES[strategy], **kwargs)
    for t in range(steps):
        state, metrics = compiled(state, meshes.put(host_batch(t), place, BATCH))
    return jax.device_get(state), jax.device_get(metrics)


def assert_same_run(found, wanted, within=5e-6):
    logits = jax.jit(lambda p, x: MODEL.apply({"params": p}, x))
    images = host_batch(99)["image"].astype(np.float32) / 127.5 - 1
    a, b = (np.asarray(logits(run.params, images)) for run in (found, wanted))
    assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()
    for part in ("params", "ema"):
        for (path, x), y in zip(
            jax.tree_util.tree_leaves_with_path(getattr(found, part)),
            jax.tree.leaves(getattr(wanted, part)),
            strict=True,
        ):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            # Its true gradient is zero: it moves by rounding alone.
            if not name.endswith("token_mixing/Dense_1/bias"):
                assert np.linalg.norm(x - y) <= within * np.linalg.norm(y), name


@pytest.mark.long
@pytest.mark.parametrize(
    ("sizes", "strategy", "model"),
    [
        ((8, 1, 1), "replicate", MODEL),
        ((1, 8, 1), "fsdp", MODEL),
        ((2, 4, 1), "fsdp", MODEL.clone(scan=True, remat="full")),
        ((2, 2, 2), "tensor", MODEL),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_mesh_trains_like_one_device(sizes, strategy, model):
    found, metrics = trained(sizes, strategy, model=model)
    wanted, alone = trained((1, 1, 1), "replicate", devices=1)
    assert_same_run(found, wanted)
    for name in alone:
        np.testing.assert_allclose(metrics[name], alone[name], rtol=1e-4)


@pytest.mark.slow
def test_micro_batches_give_the_mean_gradient_of_the_batch():
    """With dropout and stochastic depth off, as each micro-batch draws its own masks."""
    plain = MODEL.clone(dropout=0.0, stochastic_depth=0.0)
    wanted, _ = trained((8, 1, 1), "replicate", model=plain, steps=5)
    found, metrics = trained((2, 4, 1), "fsdp", model=plain, steps=5, micro_batches=4)
    assert_same_run(found, wanted, within=2e-5)
    assert metrics["accuracy"] * BATCH == round(float(metrics["accuracy"]) * BATCH)


@pytest.mark.slow
def test_micro_batches_add_no_flops_and_move_no_rows():
    model, mesh = MODEL.clone(num_blocks=1), meshes.make_mesh()
    ideal = BATCH * flops.training_macs(model, SIZE)
    for parts in (1, 2, 4):
        compiled, _, _ = made(mesh, (), micro_batches=parts, model=model, mixing=Mixing())
        program = hlo.read(compiled.as_text())
        assert 0.99 * ideal <= 8 * program.macs <= ideal
        assert set(program.sent()) == {"all-reduce"}


def test_optimizer_moments_are_sharded_like_their_parameter():
    mesh, rules, whole = meshes.make_mesh(1, -1), placement.STRATEGIES["fsdp"], PartitionSpec()
    params = MODEL.init(jax.random.key(0), jnp.zeros((1, *SIZE, 3)))["params"]
    init = lambda p: step.init_state(MODEL, optax.adam(1), SIZE, seed=0, ema=True, params=p)
    state = step.abstract_state(mesh, init, params, rules)
    kernel = lambda tree: tree["MixerBlock_1"]["channel_mixing"]["Dense_0"]["kernel"]
    adam = state.opt_state[0]
    for tree in (state.params, state.ema, adam.mu, adam.nu):
        assert kernel(tree).sharding.shard_shape((32, 64)) == (32, 8)
        assert tree["pre_head_layer_norm"]["scale"].sharding.spec == whole
    assert adam.count.sharding.spec == whole and state.step.sharding.spec == whole
    assert state.params["head"]["kernel"].sharding.shard_shape((32, 8)) == (4, 8)


def bytes_on_a_device(state):
    leaves = jax.tree.leaves((state.params, state.opt_state))
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def test_eight_devices_share_the_state_of_the_largest_mixer():
    model, size = mixer.create_model("Mixer-H/14", num_classes=1000), (224, 224)
    init = lambda p: step.init_state(model, optax.adam(1), size, seed=0, ema=False, params=p)
    whole, parts = (
        bytes_on_a_device(step.abstract_state(meshes.make_mesh(*sizes), init, None, rules))
        for sizes, rules in (((8,), ()), ((1, 8), placement.STRATEGIES["fsdp"]))
    )
    assert whole == 4 * (3 * 432_350_952 + 1)
    assert whole / 8 < parts <= 1.02 * whole / 8


SHAPES = {
    "a": {"kernel": np.zeros((6, 16)), "bias": np.zeros(16)},
    "b": {"kernel": np.zeros((7, 9))},
}


def specs(rules, **sizes):
    mesh = meshes.make_mesh(**sizes)
    return placement.parameter_specs(SHAPES, mesh, rules)


def test_the_first_rule_that_matches_decides():
    found = specs((("b/kernel", ()), ("kernel$", "fsdp")), data=2, fsdp=4)
    assert found["a"]["kernel"] == PartitionSpec(None, "fsdp")
    assert found["b"]["kernel"] == found["a"]["bias"] == PartitionSpec()
    found = specs((("a/kernel", ("tensor", "fsdp")),), data=1, fsdp=4, tensor=2)
    assert found["a"]["kernel"] == PartitionSpec("tensor", "fsdp")
    found = specs((("kernel", ()), ("a/kernel", "fsdp")), data=2, fsdp=4)  # all of it is overruled
    assert found["a"]["kernel"] == found["b"]["kernel"] == PartitionSpec()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            (("kernel$", "fsdp"),),
            r"mesh.fsdp=4 divides no dimension of b/kernel \(7, 9\).*replicate .*r'b/kernel', \(\)",
        ),
        (
            (("a/kernel", ("fsdp", None)),),
            r"mesh.fsdp=4 does not divide 6, a dimension of a/kernel .*replicate it by",
        ),
        ((("c/kernel", "fsdp"),), "'c/kernel', matches none of the 3 parameters.*'a/kernel'"),
        ((("bias", (None, "fsdp")),), "more entries than a/bias"),
        ((("bias", "sfdp"),), "Did you mean 'fsdp'"),
        ((("bias(", ()),), "not a regular expression"),
        ((("bias", 3),), "is not a pair of a regular expression and axes"),
    ],
)
def test_bad_placement_rules_are_refused(rules, message):
    with pytest.raises(errors.BadInput, match=message):
        specs(rules, data=2, fsdp=4)


def test_meshes_that_do_not_fit_the_devices_are_refused():
    assert dict(meshes.make_mesh(-1, 2, 2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    for sizes in ((3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 1, 1), (16, 1, 1), (2, 2, 1), (-2, 1, 1)):
        with pytest.raises(errors.BadInput, match="for 8 devices: the sizes must multiply"):
            meshes.make_mesh(*sizes)

import gzip
import json

import jax
import jax.numpy as jnp
import pytest
from etils import epath

from mixer import errors
from mixer.training import profile


def traced_steps(folder):
    """The step numbers in the one trace in `folder`."""
    (perfetto,) = folder.glob("plugins/profile/*/perfetto_trace.json.gz")
    assert len(list(perfetto.parent.glob("*.xplane.pb"))) == 1  # TensorBoard's
    events = json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    return [int(event["args"]["step_num"]) for event in events if event.get("name") == "train"]


@pytest.mark.parametrize(
    ("steps", "start", "end", "expected"),
    [
        (range(3, 5), 0, 8, [3, 4]),
        (range(1, 2), 0, 3, [1]),
        (range(3, 5), 0, 3, [3]),  # stopped on the way
        (range(3, 5), 2, 5, [3, 4]),
        (range(3, 5), 3, 8, None),  # resumed too late
        (range(0), 0, 3, None),
    ],
)
def test_only_the_chosen_steps_are_traced(tmp_path, steps, start, end, expected):
    step = jax.jit(lambda state, batch: (state @ batch, {"loss": state.sum()}))
    eye, folder = jnp.eye(8), epath.Path(tmp_path / "profile")
    state = eye
    with profile.traced(step, steps, start, folder) as call:
        assert (call is step) == (not steps)
        for _ in range(start, end):
            state, metrics = call(state, eye)
    assert metrics["loss"] == 8
    if expected is None:
        assert not folder.exists()
    else:
        assert traced_steps(folder) == expected


def test_a_run_goes_on_if_its_trace_cannot_be_written(tmp_path, capsys):
    (tmp_path / "profile").write_text("no folder")
    step = jax.jit(lambda state, batch: (state @ batch, {}))
    state = eye = jnp.eye(8)
    with profile.traced(step, range(2, 3), 0, epath.Path(tmp_path / "profile")) as call:
        for _ in range(3):
            state, _ = call(state, eye)
    assert (state == eye).all()
    warned = f"warning: the profile could not be written: {tmp_path}/profile/plugins"
    assert capsys.readouterr().out.startswith(warned)


def test_both_ends_are_traced():
    assert list(profile.parse_steps("2-3", 3, "runtime.profile")) == [2, 3]
    assert list(profile.parse_steps("3-3", 3, "runtime.profile")) == [3]
    assert not profile.parse_steps("", 3, "runtime.profile")


@pytest.mark.parametrize("text", ["0-3", "3-2", "2-4", "2", "a-b", "2-3 steps", "-1-2"])
def test_bad_steps_are_refused(text):
    with pytest.raises(
        errors.BadInput, match=r"config\.runtime\.profile=.*within 1 to 3, such as '3-3'"
    ):
        profile.parse_steps(text, 3, "runtime.profile")

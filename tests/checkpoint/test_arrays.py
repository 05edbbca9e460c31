"""`.safetensors` by its specification, and what is not by it."""

import json
import struct

import jax.numpy as jnp
import numpy as np
import pytest

import mixer
from mixer.checkpoint import arrays


def file(path, header, data=b"", length=None):
    """Written by hand: 8 bytes, JSON, bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "name, dtype", [("F64", "<f8"), ("F32", "<f4"), ("F16", "<f2"), ("BF16", jnp.bfloat16)]
)
def test_every_float_is_read_as_float32(name, dtype, tmp_path):
    values = np.array([[0.5, -2, 96], [1, 0, -0.125]]).astype(dtype)
    one = np.array(3).astype(dtype)
    header = {
        "__metadata__": {"format": "pt"},
        "b": entry([], values.nbytes, values.nbytes + one.nbytes, name),
        "a": entry([2, 3], 0, values.nbytes, name),
    }
    read = arrays.read(file(tmp_path / "x.safetensors", header, values.tobytes() + one.tobytes()))
    assert read["a"].dtype == read["b"].dtype == np.float32
    np.testing.assert_array_equal(read["a"], values.astype(np.float32))
    assert read["b"] == 3


def test_what_is_written_is_by_the_specification(tmp_path):
    path = tmp_path / "x.safetensors"
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays.write(path, {"a": a.T, "b": np.float32(7) * np.ones(1, np.float32)})
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0 and header.pop("__metadata__") == {"format": "pt"}
    assert header == {"a": entry([3, 2], 0, 24), "b": entry([1], 24, 28)}
    assert content[8 + length :] == struct.pack("<7f", 0, 3, 1, 4, 2, 5, 7)


def test_damage_is_named(tmp_path):
    data = bytes(16)
    good = {"a": entry([2], 0, 8), "b": entry([2], 8, 16)}
    for header, content, length, message in (
        (good, data[:15], None, r"b would end at byte"),
        (good, data + b"!", None, "1 bytes belong to no array"),
        (good, data, 10**12, "its header would end at byte 1000000000008"),
        (good, data, 20, "is no readable .safetensors file"),
        (b"[1, 2]", data, None, "is no readable .safetensors file"),
        (b"\xff\xfe", data, None, "is no readable .safetensors file"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, data, None, "4 to 12 are not those of b"),
        ({"a": entry([3], 0, 8)}, data[:8], None, r"0 to 8 are not those of a, \[3\]"),
        ({"a": entry([-1, -2], 0, 8)}, data[:8], None, "is no readable"),
        ({"a": entry([1], 0, 8, "I64")}, data[:8], None, "a is of dtype I64, expected F64, F32"),
        ({"a": {"dtype": "F32"}}, data, None, "is no readable .safetensors file: 'data_offsets'"),
    ):
        path = file(tmp_path / "x.safetensors", header, content, length)
        with pytest.raises(mixer.BadInput, match=message) as error:
            arrays.read(path)
        assert "\n" not in str(error.value)
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(mixer.BadInput, match="is no readable .safetensors"):
        arrays.read(tmp_path / "x.safetensors")
    with pytest.raises(mixer.BadInput, match="there is no such file"):
        arrays.read(tmp_path / "none.safetensors")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    arrays.write(path, {"a": np.ones(3, np.float32)})
    before = path.read_bytes()

    def full(stream, content):
        stream.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(arrays, "_write_safetensors", full)
    with pytest.raises(mixer.BadInput, match="cannot be written: No space left"):
        arrays.write(path, {"a": np.zeros(3, np.float32)})
    assert path.read_bytes() == before

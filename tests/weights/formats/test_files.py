"""`.safetensors` by its specification, `.npz` as NumPy writes it, and other files."""

import errno
import gzip
import io
import json
import os
import struct
import warnings
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

import mixer
from mixer.weights import formats


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
    read = formats.read(file(tmp_path / "x.safetensors", header, values.tobytes() + one.tobytes()))
    assert read["a"].dtype == read["b"].dtype == np.float32
    np.testing.assert_array_equal(read["a"], values.astype(np.float32))
    assert read["b"] == 3


def test_written_files_follow_the_specification(tmp_path):
    path = tmp_path / "x.safetensors"
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    formats.write(path, {"a": a.T, "b": np.float32(7) * np.ones(1, np.float32)})
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
        (good, data[:15], None, r"\d+ bytes: is it complete\?"),
        (good, data + b"!", None, r"\d+ bytes: is it complete\?"),
        (good, data, 10**12, "is not a readable .safetensors file"),
        (good, data, 20, "is not a readable .safetensors file"),
        (b"[1, 2]", data, None, "is not a readable .safetensors file"),
        (b"\xff\xfe", data, None, "is not a readable .safetensors file"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, data, None, "is not a readable .*b"),
        ({"a": entry([3], 0, 8)}, data[:8], None, "is not a readable .safetensors file"),
        ({"a": entry([-1, -2], 0, 8)}, data[:8], None, "is not a readable"),
        ({"a": entry([8], 0, 8, "F8_E4M3")}, data[:8], None, "is not a readable .safetensors file"),
        ({"a": {"dtype": "F32"}}, data, None, "is not a readable .safetensors file"),
    ):
        path = file(tmp_path / "x.safetensors", header, content, length)
        with pytest.raises(mixer.BadInput, match=message) as error:
            formats.read(path)
        assert "\n" not in str(error.value)
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(mixer.BadInput, match="is not a readable .safetensors"):
        formats.read(tmp_path / "x.safetensors")
    with pytest.raises(mixer.BadInput, match="there is no such file"):
        formats.read(tmp_path / "none.safetensors")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    formats.write(path, {"a": np.ones(3, np.float32)})
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(mixer.BadInput, match="cannot be written: No space left"):
        formats.write(path, {"a": np.zeros(3, np.float32)})
    assert path.read_bytes() == before


def npz(path, members, **options):
    """A zip archive of (name, bytes) pairs."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def npy(array=None, shape=None):
    """An .npy file; `shape` is what its header claims."""
    stream, array = io.BytesIO(), np.zeros(2, np.float32) if array is None else array
    header = {"descr": "<f4", "fortran_order": False, "shape": shape or array.shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + array.tobytes()


def refused(path):
    """The one-line message with which `read` refuses the file."""
    with pytest.raises(mixer.BadInput) as error:
        formats.read(path)
    message = str(error.value)
    assert "\n" not in message and "allow_pickle" not in message and str(path) in message
    return message


def test_every_float_of_an_npz_is_read_as_float32(tmp_path):
    values = np.array([[0.5, -2, 96], [1, 0, -0.125]])
    kinds = (np.float64, np.float32, np.float16, ">f4", jnp.bfloat16)
    np.savez_compressed(
        tmp_path / "X.NPZ", **{str(i): values.astype(k) for i, k in enumerate(kinds)}
    )
    (tmp_path / "X.NPZ.npz").rename(tmp_path / "X.NPZ")
    read = formats.read(tmp_path / "X.NPZ")
    assert len(read) == 5 and {array.dtype for array in read.values()} == {np.dtype("float32")}
    for array in read.values():
        np.testing.assert_array_equal(array, values)


def test_the_sizes_an_npz_claims_are_checked_before_memory_is_allocated(tmp_path):
    path, huge = tmp_path / "x.npz", 10**12
    claim = "a should have 4,000,000,000,000 bytes, but they are not in the file"
    assert claim in refused(npz(path, [("a.npy", npy(shape=(huge,)))]))
    # The archive claims it too: 4 GB, but it has 4 MB, compressed to a few bytes.
    floats = 2**30 - 40
    content = npz(path, [("a.npy", npy(np.zeros(2**20, np.float32), (floats,)))], compression=8)
    real, said = (n.to_bytes(4, "little") for n in (128 + 2**22, 128 + 4 * floats))
    content = content.read_bytes()
    assert content.count(real) == 2 and len(content) < 5000
    path.write_bytes(content.replace(real, said))
    assert f"a should have {4 * floats:,} bytes" in refused(path)
    for members, message in (
        ([("a.npy", npy()), ("a.npy", npy())], "a is in it twice"),
        ([("a.npy", npy()[:-1])], "a should have 8 bytes"),
        ([("a.npy", npy() + b"!")], "a should have 8 bytes"),
        ([("a.npy", npy(shape=(-1, -2)))], "not a readable .npz file"),
        ([("a.npy", b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535)], "header of a cannot be par"),
        ([("a.npy", b"text")], "header of a cannot be parsed"),
        ([("readme.txt", b"text")], "its member readme.txt is not an array"),
    ):
        with warnings.catch_warnings(action="ignore"):  # about the duplicate name
            npz(path, members)
        assert message in refused(path)
    assert "does not use" in refused(npz(path, [("a.npy", npy())], compression=zipfile.ZIP_LZMA))


def test_files_of_other_kinds_are_named(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 240000000\n"
    whole = npz(tmp_path / "whole.npz", [("a.npy", npy())]).read_bytes()
    for content, message in (
        (pointer, "git lfs pull"),
        (gzip.compress(whole), "gunzip"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (npy(), r"single array \(.npy\)"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        (b"", "it is empty"),
        (bytes(3), "3 bytes: is it complete?"),
    ):
        for ending in formats.ENDINGS:
            path = tmp_path / f"x y{ending}"
            path.write_bytes(content)
            assert message.replace("\\", "") in refused(path)
    (tmp_path / "zip.safetensors").write_bytes(whole)
    assert "it is a zip archive, as .npz" in refused(tmp_path / "zip.safetensors")
    pickled = npz(tmp_path / "p.npz", [("archive/data.pkl", b"\x80\x02}q\x00.")])
    assert "weights_only=True" in refused(pickled) and "p.safetensors" in refused(pickled)
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.npz")
    for name in ("folder.npz", "pipe.npz"):
        assert "it is not a regular file" in refused(tmp_path / name)
    np.savez(tmp_path / "x.npz", a=np.array([1e300]))
    assert np.isinf(formats.read(tmp_path / "x.npz")["a"]).all()

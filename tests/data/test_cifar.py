"""`cifar:PATH`: the archives as they are published."""

import gzip
import pickle
import tarfile

import pytest
from forms import CLASSES, as_python_archive, open_, planes, tar_of

from mixer import errors


class Call:
    def __reduce__(self):
        import os

        return os.system, ("true",)


def test_a_pickle_that_calls_something_is_never_executed(made, tmp_path):
    place = tmp_path / as_python_archive(made, tmp_path).removeprefix("cifar:")
    with tarfile.open(place) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    name = "cifar-10-batches-py/data_batch_3"
    tar_of(place, members | {name: pickle.dumps(Call(), protocol=2)}, "w:gz")
    with pytest.raises(errors.BadInput, match=r"data_batch_3 cannot be read: it calls \w+.system"):
        open_(f"cifar:{place}")
    del members[name]
    tar_of(place, members, "w:gz")
    with pytest.raises(errors.BadInput, match="data_batch_3 of cifar-10-batches-py is missing"):
        open_(f"cifar:{place}")


def test_a_damaged_archive_is_refused(made, tmp_path):
    """Also if its pixels alone differ, and if they cannot be decompressed."""
    place = tmp_path / as_python_archive(made, tmp_path).removeprefix("cifar:")
    content = gzip.decompress(place.read_bytes())
    for level in (0, 9):
        whole = gzip.compress(content, level)
        middle = len(whole) // 2
        place.write_bytes(whole[:middle] + bytes(9) + whole[middle + 9 :])
        with pytest.raises(errors.BadInput, match="cannot be read as a tar: (CRC|Error -3)"):
            open_(f"cifar:{place}")


def test_cifar_100_has_two_kinds_of_labels(made, tmp_path):
    content = {}
    for split, (pixels, labels) in made.items():
        content[split] = {b"data": planes(pixels), b"fine_labels": labels.tolist()}
        content[split][b"coarse_labels"] = (labels // 2).tolist()
    fine = [name.encode() for name in CLASSES]
    content["test"][b"fine_labels"][3] = -1
    content["meta"] = {b"fine_label_names": fine, b"coarse_label_names": [b"flies", b"walks"]}
    for name, each in content.items():
        (tmp_path / name).write_bytes(pickle.dumps(each, protocol=2))
    place = f"cifar:{tmp_path}"
    with pytest.raises(errors.BadInput, match="label -1: expected 0 to 2"):
        open_(place)
    coarse = open_(place, label_key="coarse_labels")
    assert coarse.classes == ("flies", "walks")
    numbers = [int(where.split("image ")[1].split()[0]) for where in map(coarse.where, range(40))]
    assert [coarse[i]["label"] for i in range(40)] == (made["train"][1] // 2)[numbers].tolist()
    with pytest.raises(errors.BadInput, match="'coarse'. Did you mean 'coarse_labels'"):
        open_(place, label_key="coarse")

"""One small data set in every form that is read in place."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mixer import batch as batch_lib
from mixer.data import order as order_lib
from mixer.data import pipeline, sources, transforms
from mixer.prepare import dataset, readers

CLASSES = ("airplane", "bird", "cat")
SIZES = {"train": 40, "test": 12}


def open_(place, split="train", **reading):
    return sources.open_source(place, split, reading=sources.Reading(**reading))


def make():
    """{split: (pixels uint8 [N, 32, 32, 3], labels [N])}, the classes in no order."""
    rng = np.random.default_rng(0)
    return {
        split: (
            rng.integers(0, 256, (size, 32, 32, 3), np.uint8),
            np.concatenate([np.arange(3), rng.integers(0, 3, size - 3)]),
        )
        for split, size in SIZES.items()
    }


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tar_of(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def table_of(pixels, labels, hub=True, **columns):
    """A table as Hugging Face's `datasets` writes it."""
    images = [{"bytes": png(p), "path": None} for p in pixels]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(images, kind), "label": labels} | columns)
    names = {"_type": "ClassLabel", "names": list(CLASSES)}
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": names}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(info)} if hub else None)


def as_folder(made, root):
    for split, (pixels, labels) in made.items():
        for row, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            file = root / split / CLASSES[label] / f"{row:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image))
    return f"folder:{root}"


def as_manifest(made, root):
    as_folder(made, root)
    rows = [f"{p.relative_to(root)},{p.parent.name},{p.parts[-3]}" for p in root.rglob("*.png")]
    (root / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    return f"manifest:{root}/list.csv"


def as_parquet(made, root):
    (root / "data").mkdir(parents=True)
    for split, (pixels, labels) in made.items():
        half = len(labels) // 2
        for part, rows in enumerate((slice(half), slice(half, None))):
            file = root / "data" / f"{split}-0000{part}-of-00002.parquet"
            pq.write_table(table_of(pixels[rows], labels[rows]), file, row_group_size=7)
    return f"parquet:{root}"


def as_webdataset(made, root):
    for split, (pixels, labels) in made.items():
        for part in range(2):
            members = {}
            for row in range(part, len(labels), 2):
                members[f"{row:05d}.png"] = png(pixels[row])
                members[f"{row:05d}.cls"] = CLASSES[labels[row]].encode()
            tar_of(root / split / f"{part}.tar", members)
    return f"webdataset:{root}"


def as_npz(made, root):
    root.mkdir(parents=True)
    arrays = {f"x_{split}": pixels for split, (pixels, _) in made.items()}
    arrays |= {f"y_{split}": labels[:, None] for split, (_, labels) in made.items()}
    np.savez(root / "a b.npz", classes=np.array(CLASSES), **arrays)
    return f"arrays:{root}/a b.npz"


def as_npy(made, root):
    root.mkdir(parents=True)
    np.save(root / "classes.npy", np.array(CLASSES))
    for split, (pixels, labels) in made.items():
        np.save(root / f"{split}_images.npy", pixels)
        np.save(root / f"{split}_labels.npy", labels)
    return f"arrays:{root}"


def planes(pixels):
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), 3072)


def batches_of(made):
    """{file: (pixels, labels)} as CIFAR-10 divides them."""
    parts = [np.arange(i, i + 8) for i in range(0, 40, 8)]
    found = {f"data_batch_{i}": [a[p] for a in made["train"]] for i, p in enumerate(parts, 1)}
    return found | {"test_batch": made["test"]}


def text(value):
    return b"U" + bytes([len(value)]) + value.encode()


def pickled_by_python_2(pixels, labels):
    """{"data": pixels, "labels": labels} as the published archive has it: text is bytes."""
    size = b"M" + len(pixels).to_bytes(2, "little") + b"M" + (3072).to_bytes(2, "little")
    state = b"(K\x03" + text("|") + b"NNN" + 2 * b"J\xff\xff\xff\xff" + b"K\x00tb"
    kind = b"cnumpy\ndtype\n(" + text("u1") + b"K\x00K\x01tR" + state
    content = b"T" + (3072 * len(pixels)).to_bytes(4, "little") + planes(pixels).tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text("b") + b"tR"
    array += b"(K\x01(" + size + b"t" + kind + b"\x89" + content + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + text("labels") + numbers + b"u."


def as_python_archive(made, root):
    names = b"](" + b"".join(map(text, CLASSES)) + b"e"
    files = {"batches.meta": b"\x80\x02}(" + text("label_names") + names + b"u."}
    for name, (pixels, labels) in batches_of(made).items():
        files[name] = pickled_by_python_2(pixels, labels.tolist())
    pickled = {f"cifar-10-batches-py/{n}": c for n, c in files.items()}
    return f"cifar:{tar_of(root / 'cifar-10-python.tar.gz', pickled, 'w:gz')}"


def as_binary_folder(made, root):
    (root / "cifar-10-batches-bin").mkdir(parents=True)
    for name, (pixels, labels) in batches_of(made).items():
        records = np.concatenate([labels.astype(np.uint8)[:, None], planes(pixels)], 1)
        (root / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(records.tobytes())
    (root / "cifar-10-batches-bin/batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    return f"cifar:{root}"


FORMS = (
    as_folder,
    as_manifest,
    as_parquet,
    as_webdataset,
    as_npz,
    as_npy,
    as_python_archive,
    as_binary_folder,
)


def first_batch(source, outputs=0):
    """Of training; `outputs`: of labels that are vectors."""
    rows = pipeline.Rows(
        source=source,
        transform=transforms.parse("inception_crop|flip_lr", (16, 16)),
        order=order_lib.Full(len(source), 0),
        seed=0,
        batch_size=8,
        rows=range(8),
        padding=batch_lib.padding((16, 16), outputs=outputs),
    )
    return next(pipeline.batches(rows, start=0, stop=1, threads=2, workers=0))


def prepared(source, data_dir, **keys):
    """Prepares a data set; returns (split) -> its source."""
    job = dataset.Preparation(
        source=source,
        reader=readers.open_reader(source, **keys),
        target=data_dir / "mine" / "1.0.0",
        split="train",
        shard_bytes=20_000,
        processes=1,
        dedup_against="",
        test_sets=[],
    )
    assert dataset.prepare(job, accept=lambda: None, stop=lambda: False)
    return lambda split: sources.open_source("mine", split, data_dir)

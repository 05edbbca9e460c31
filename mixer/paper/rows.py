"""The paper's experiments: the runs behind each row of tables 2 and 3 and of figures 2 and 4.

From top to bottom it follows sections 3 and 4. A run is a recipe with words
(configs/RECIPE.py:WORDS), the config keys that differ from it, the run whose weights it starts
from, and the columns that its results fill. Only the pretraining of a row uses a large dataset.
Rows with the same pretraining share one run for it.
"""

import dataclasses
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from mixer.paper import published

# Numbers of images by split. (Counts of TFDS; JFT's from Dosovitskiy et al.)
SPLITS = {
    "imagenet2012": {"train": 1_281_167, "validation": 50_000},
    "imagenet21k": {"full": 14_197_122},
    "jft": {"full": 303_000_000},
}
# Those of training, without the ones that the recipes hold out.
IMAGES = {"imagenet2012": 1_268_355, "imagenet21k": 14_145_922, "jft": 303_000_000 - 51_200}
# {dataset of the pretraining: recipe}.
_PRETRAINING = {"imagenet2012": "imagenet", "imagenet21k": "imagenet21k", "jft": "jft"}
# "Avg 5" is the mean over these datasets.
FIVE = ("imagenet2012", "cifar10", "cifar100", "oxford_iiit_pet", "oxford_flowers102")


@dataclasses.dataclass(frozen=True)
class Run:
    """One command.

    Attributes:
      folder: its workdir, relative to the one of all runs.
      recipe: name of a file in configs/, without ".py".
      words: the words after the colon.
      keys: {"a.b": value}, the config keys that differ from the recipe.
      after: folder of the run whose weights it starts from; "" for none.
      fills: {column: metric of results.json that fills it}; "device_days" is a key of its own.
    """

    folder: str
    recipe: str
    words: tuple[str, ...]
    keys: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    after: str = ""
    fills: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def protocol(self) -> str:
        """The recipe and its words, as in results.json."""
        return f"{self.recipe}:{','.join(self.words)}"

    def command(self, workdir: str, init_from: str) -> str:
        """The command line. `init_from` is used only by a run that starts from another run."""
        words = ["python", "main.py", f"--config=configs/{self.recipe}.py:{','.join(self.words)}"]
        words += [f"--config.init_from={init_from}"] * bool(self.after)
        words += [f"--config.{key}={value}" for key, value in self.keys.items()]
        return shlex.join([*words, f"--workdir={workdir}"])


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table, or a point of a figure.

    Attributes:
      part: "table2", "table3", "figure2_right" or "figure4".
      label: distinguishes it from the other rows of the part.
      model: registered name.
      pretrained_on: "imagenet2012", "imagenet21k" or "jft".
      epochs: epochs of pretraining, over the images that are trained on.
      image_size: resolution of fine-tuning in pixels; in figures, of all runs.
      published: {column: number in the paper}; None where the paper has none.
      runs: in the order in which to run them.
    """

    part: str
    label: str
    model: str
    pretrained_on: str
    epochs: float
    image_size: int
    published: Mapping[str, Any]
    runs: tuple[Run, ...]


def rows(*, smoke: bool = False) -> list[Row]:
    """All rows that this codebase can reproduce: those of Mixer, ViT and BiT.

    Table 2 takes the numbers of HaloNet, NFNet, MPL and ALIGN from their papers; also those of ViT
    and BiT, for which it names no resolution.

    Args:
      smoke: makes each run its recipe's smoke test, on 32 x 32 pixels.
    """
    return [
        *_table("table2", _row_of_table_2, smoke),
        *_table("table3", _row_of_table_3, smoke),
        *_figure_2_right(smoke),
        *_figure_4(smoke),
    ]


def described() -> list[Row]:
    """The rows of tables 1 and 4, which no run fills: model sizes and hyperparameters."""
    found = []
    for part, texts in (("table1", ("model",)), ("table4", ("model", "pretrained_on"))):
        for numbers in published.table(part):
            columns = {c: v for c, v in numbers.items() if c not in texts}
            label = ", ".join(numbers[text] for text in texts)
            data = numbers.get("pretrained_on", "")
            found.append(Row(part, label, numbers["model"], data, 0, 224, columns, ()))
    return found


def recipe_of(row: Row) -> str:
    """The recipe and words that train like a row of table 4; for Mixer-B and the like with /16."""
    return f"{_PRETRAINING[row.pretrained_on]}:{row.model}/{14 if row.model[-1] == 'H' else 16}"


def _table(name: str, of_row, smoke: bool) -> Iterator[Row]:
    for numbers in published.table(name):
        if numbers["pretraining_epochs"] is None:
            continue
        model, data, size = (numbers[k] for k in ("model", "pretrained_on", "image_size"))
        epochs = numbers["pretraining_epochs"]
        pretraining = _pretraining(model, data, epochs, smoke)
        label = f"{model}, {data}, {epochs} epochs, {size}"
        columns = {c: v for c, v in numbers.items() if c in ("imagenet", "real", "avg5", "vtab")}
        columns |= {c: numbers[c] for c in ("throughput", "cost")}
        folder = f"{name}-{_slug(model)}-{data}-{epochs}-{size}"
        runs = of_row(numbers, folder, pretraining.folder, smoke)
        yield Row(name, label, model, data, epochs, size, columns, (pretraining, *runs))


def _pretraining(model: str, data: str, epochs: int, smoke: bool) -> Run:
    """Section 3, "Pre-training details"; table 4."""
    keys = {} if smoke else {"total": f"{epochs} epochs"}
    return Run(
        folder=f"pretraining-{_slug(model)}-{data}-{epochs}",
        recipe=_PRETRAINING[data],
        words=_words(model, 224, smoke=smoke),
        keys=keys,
        fills={"cost": "device_days"},
    )


def _row_of_table_3(numbers, folder: str, pretraining: str, smoke: bool) -> Iterator[Run]:
    """Fine-tuning on five datasets; test images keep their aspect ratio (appendix C)."""
    size, keys = numbers["image_size"], {}
    if size > 224:
        transform = f"resize_small({round(size * 8 / 7)})|central_crop"
        keys = {f"evaluators.{name}.transform": transform for name in ("test", "dev")}
    yield from _fine_tunings(numbers, folder, pretraining, keys, smoke)
    yield _throughput(numbers, folder, smoke)


def _row_of_table_2(numbers, folder: str, pretraining: str, smoke: bool) -> Iterator[Run]:
    """Fine-tuning at 448, with test images resized to a square, and VTAB-1k."""
    yield from _fine_tunings(numbers, folder, pretraining, {}, smoke)
    words = _words(numbers["model"], 32 if smoke else None, smoke=smoke)
    yield Run(f"{folder}/vtab", "vtab", words, {"run": "vtab"}, pretraining, {"vtab": "vtab/mean"})
    yield _throughput(numbers, folder, smoke)


def _fine_tunings(numbers, folder: str, pretraining: str, keys, smoke: bool) -> Iterator[Run]:
    """A sweep on each of the five datasets; only on ImageNet where the paper has no average."""
    for data in FIVE if numbers["avg5"] is not None else FIVE[:1]:
        fills, own = {"avg5": "test/top1"}, dict(keys)
        if data == "imagenet2012":
            fills = {"imagenet": "test/top1", "real": "real/top1", **fills}
            if keys:
                own["evaluators.real.transform"] = keys["evaluators.test.transform"]
        if smoke:
            own = {}
        words = _words(numbers["model"], numbers["image_size"], data, smoke=smoke)
        yield Run(f"{folder}/{data}", "sweep", words, own, pretraining, fills)


def _throughput(numbers, folder: str, smoke: bool) -> Run:
    """Section 3, "Metrics": images/s/core at the best batch size."""
    words = _words(numbers["model"], numbers["image_size"], smoke=smoke)
    size = 32 if smoke else numbers["image_size"]
    metric = f"throughput/{numbers['model']}@{size}/inference_images_per_second_per_device"
    keys = {"run": "throughput", "throughput.training": False}
    if smoke:
        keys |= {"throughput.largest_batch": 8, "throughput.calls": 3}
    return Run(f"{folder}/throughput", "imagenet", words, keys, "", {"throughput": metric})


def _figure_2_right(smoke: bool) -> Iterator[Row]:
    """Section 4.2: linear 5-shot accuracy after the same number of steps on parts of the data."""
    figure = published.figure("figure2_right")
    for model in figure["models"]:
        for part, epochs in figure["parts"].items():
            folder = f"figure2_right-{_slug(model)}-{part.removesuffix('%')}"
            words = _words(model, 224, smoke=smoke)
            training = Run(f"{folder}/training", "data_scaling", (part, *words))
            keys = {"init_step": "best"}
            label = f"{model}, {part}"
            yield _few_shot("figure2_right", label, model, epochs, folder, training, keys, smoke)


def _figure_4(smoke: bool) -> Iterator[Row]:
    """Section 4.4: one permutation shuffles the pixels of all images."""
    figure = published.figure("figure4")
    for model in figure["models"]:
        for case in figure["cases"]:
            folder = f"figure4-{_slug(model)}-{case}"
            training = Run(
                f"{folder}/training", "permutation", (case, *_words(model, 224, smoke=smoke))
            )
            moved = {"original": "", "patches": "|permute_patches(16)", "pixels": "|permute_pixels"}
            transform = f"resize(256)|central_crop{moved[case]}"
            keys = {"evaluators.fewshot.transform": transform}
            label = f"{model}, {case}"
            yield _few_shot("figure4", label, model, 7, folder, training, keys, smoke)


def _few_shot(part, label, model, epochs, folder, training: Run, keys, smoke: bool) -> Row:
    metric = "fewshot/digits/5shot" if smoke else "fewshot/imagenet2012/5shot"
    words = ("smoke",) if smoke else ("imagenet2012",)
    few_shot = Run(
        f"{folder}/fewshot",
        "fewshot",
        words,
        {} if smoke else keys,
        training.folder,
        {"fewshot": metric},
    )
    return Row(part, label, model, "jft", epochs, 224, {"fewshot": None}, (training, few_shot))


def _words(model: str, size: int | None, data: str = "", *, smoke: bool) -> tuple[str, ...]:
    """The words of a recipe. A smoke test uses the digits dataset and 32 x 32 pixels."""
    if smoke:
        return (model, "32", "smoke")
    return tuple(word for word in (model, data, str(size or "")) if word)


def _slug(model: str) -> str:
    return model.replace("/", "-")

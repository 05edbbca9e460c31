"""The runs behind the paper's rows: every command builds, and does what its row says."""

import pytest

import mixer
from mixer import recipes
from mixer.paper import published, rows

ROWS = rows.rows()


def recipe(run):
    config = recipes.load(run.protocol, run.keys.get("run", ""))
    for key, value in run.keys.items():
        *groups, name = key.split(".")
        group = config
        for part in groups:
            group = group[part]
        group[name] = value  # a key that the recipe does not have is an error
    return config


def test_every_row_we_can_reproduce_is_listed():
    """Tables 2 and 3 have 7 models that other papers measured, and 2 + 26 of ours."""
    counts = {part: sum(row.part == part for row in ROWS) for part in ("table2", "table3")}
    assert counts == {"table2": 2, "table3": 26}
    assert sum(row.part == "figure2_right" for row in ROWS) == 7 * 4
    assert sum(row.part == "figure4" for row in ROWS) == 2 * 3
    labels = [(row.part, row.label) for row in ROWS]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.part}: {row.label}")
def test_the_runs_of_a_row_match_the_row(row):
    earlier = set()
    for run in row.runs:
        config = recipe(run)
        assert run.after in earlier | {""}, "a run comes after the one it starts from"
        earlier.add(run.folder)
        if config.run != "fewshot":
            assert config.model.name == row.model
        if config.run == "sweep":
            assert tuple(config.image_size) == (row.image_size,) * 2
            assert config.init_head == "reset" and config.sweep.seeds == (0, 1, 2)
    filled = {column for run in row.runs for column in run.fills}
    wanted = {column for column, value in row.published.items() if value is not None}
    assert wanted <= filled


@pytest.mark.parametrize("row", [r for r in ROWS if r.part == "table3"], ids=lambda r: r.label)
def test_pretraining_takes_the_steps_of_table_4(row):
    """round(epochs x images / 4,096): 92,897 on ImageNet, 1,036,078 on ImageNet-21k."""
    pretraining = recipe(row.runs[0])
    assert pretraining.batch_size == 4096
    epochs = int(pretraining.total.split()[0])
    steps = round(epochs * rows.IMAGES[row.pretrained_on] / 4096)
    if row.pretrained_on != "jft":
        assert steps == {"imagenet2012": 92_897, "imagenet21k": 1_036_078}[row.pretrained_on]
    assert epochs in (300,) if row.pretrained_on != "jft" else epochs in (5, 7, 14)


def test_evaluation_crops_are_those_of_table_2_or_table_3():
    """Appendix C: resize-crop in table 2, resmall-crop in table 3 (of BiT not on ImageNet)."""
    seen = {}
    for row in ROWS:
        for run in row.runs:
            if run.recipe != "sweep":
                continue
            config = recipe(run)
            kinds = {
                entry.transform.partition("(")[0]
                for entry in config.evaluators.values()
                if entry.split
            }
            family = row.model.partition("-")[0]
            imagenet = config.dataset == "imagenet2012"
            seen.setdefault((row.part, family, imagenet), set()).update(kinds)
    assert seen[("table2", "Mixer", True)] == seen[("table2", "Mixer", False)] == {"resize"}
    for family in ("Mixer", "ViT"):
        for imagenet in (True, False):
            assert seen[("table3", family, imagenet)] == {"resize_small"}
    assert seen[("table3", "BiT", True)] == {"resize"}


def test_rows_share_a_pretraining_only_if_it_is_the_same():
    by_folder = {}
    for row in ROWS:
        for run in row.runs:
            by_folder.setdefault(run.folder, set()).add(repr(run))
    assert all(len(runs) == 1 for runs in by_folder.values())
    sharing = [
        row.label for row in ROWS if "pretraining-Mixer-L-16-imagenet21k" in row.runs[0].folder
    ]
    assert len(sharing) == 3  # table 2, and table 3 at 224 and at 448


def test_the_published_numbers_are_consistent():
    """A model and a resolution have one throughput, within table 3 and between tables 2 and 3."""
    by_model = {}
    for name in ("table2", "table3"):
        for row in published.table(name):
            if row["image_size"] and row["throughput"]:
                by_model.setdefault((row["model"], row["image_size"]), set()).add(row["throughput"])
    assert all(len(numbers) == 1 for numbers in by_model.values())
    for row in published.table("table1"):
        model = mixer.create_model(row["model"], 0)
        assert model.tokens_mlp_dim == row["mlp_dim_DS"]
        assert row["sequence_length_S"] == (224 // row["patch"]) ** 2

"""The command: its help, how it finds recipes, and the installed package."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from runs_command import write_spy

import mixer
from configs import meanings, quickstart
from mixer import errors, help, recipes, runs
from mixer.hosts import software
from mixer.runs import keys

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("flag", ["--help", "-h", "-help", "--helpfull"])
def test_help_names_every_run_and_every_recipe(flag, said):
    code, out, err = said(flag)
    assert (code, err) == (0, "") and out.startswith("mixer --config=RECIPE[:WORDS] ")
    lines = [line.split(maxsplit=1) for line in out.splitlines() if line.startswith("  ")]
    described = {line[0]: line[1] for line in lines if len(line) == 2}
    texts = {path.stem: recipes.text(path) for path in recipes.FOLDER.glob("*.py")}
    ours = {name: texts[name] for name in recipes.described()}
    assert "common" in texts and "common" not in ours
    both = ours | {name: runs.load(name).__doc__ for name in runs.described()}
    # A run's text begins with its name, which stands in another column here.
    assert {"plan", "show", "quickstart"} <= both.keys() <= described.keys()
    for name, text in both.items():
        first = text.partition("\n")[0]
        assert len(described[name]) > 15 and first.endswith(described[name]), name
        assert first.removesuffix(described[name]) in ("", f'`config.run="{name}"`: ')


def test_the_command_in_a_clone_is_main_py(monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(ROOT / "main.py")])
    assert errors.command() == "python main.py"
    assert set(re.findall(r"^ *(.*) --config=quickstart --workdir", help.overview(), re.M)) == {
        "python main.py"
    }


def test_help_imports_nothing_slow():
    code = (
        "import sys; sys.argv = ['mixer', '--help']\n"
        "from mixer import command\n"
        "assert command.main() == 0\n"
        "assert not {'jax', 'flax', 'tensorflow_datasets', 'grain'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_recipes_are_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipes.find("imagenet") == ROOT / "configs/imagenet.py"
    for own in ("imagenet.py", "sub/mine.py"):
        path = tmp_path / own
        path.parent.mkdir(exist_ok=True)
        path.write_text("def get_config(words=''): ...")
        assert recipes.find(own).resolve() == path and recipes.find(str(path)) == path
    assert recipes.find("imagenet") == ROOT / "configs/imagenet.py"
    refused = {
        "imagnet": "unknown recipe 'imagnet'. Did you mean 'imagenet'",
        "common": "unknown recipe 'common'",
        "mine": "Give your own recipe by its path",
        "sub/mien.py": "Did you mean 'sub/mine.py'",
        "configs/jft.py": "the recipe that comes with the package is --config=jft",
        "nowhere/mine.py": "Known: ablations, .* by their names alone",
    }
    for given, message in refused.items():
        with pytest.raises(mixer.BadInput, match=message):
            recipes.find(given)
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(mixer.BadInput, match="The file here is --config=mine.py"):
        recipes.find("mine")


def test_other_names_of_keys_suggest_the_keys():
    known = list(keys.flat(keys.as_json(recipes.load("quickstart", whole=True))))
    for key, names in meanings.OTHER_NAMES.items():
        for name in names.split():
            near = meanings.near(name, known)
            assert near and len(near) <= 3, name
            if name not in {end.rpartition(".")[2] for end in known}:
                assert key in near[0], (name, near)
    near = {
        "lr": ["schedule.base"],
        "optimizer.learning-rate": ["schedule.base"],
        "batch_size": ["batch_size"],
        "optimizer.batchsize": ["batch_size"],
        "weight_decay": ["optimizer.weight_decay"],
        "workers": ["runtime.workers"],
        "sweep.rates": ["sweep.grid"],
        "evaluators.val.every": ["evaluators.test.every"],
        "nothing_like_it": [],
    }
    for name, expected in near.items():
        found = meanings.near(name, known)
        assert found[:1] == expected[:1], (name, found)


def test_the_keys_of_big_vision_and_scenic_lead_to_ours():
    known = [*meanings.common_keys(), "model.head_bias_init", "model.stochastic_depth"]
    theirs = {
        "total_epochs": "total",
        "num_training_epochs": "total",
        "init_head_bias": "model.head_bias_init",
        "model.stoch_depth": "model.stochastic_depth",
        "lr_configs.base_learning_rate": "schedule.base",
        "schedule.decay_type": "schedule.decay",
        "schedule.warmup_steps": "schedule.warmup",
        "schedule.linear_end": "schedule.end",
        "wd": "optimizer.weight_decay",
        "grad_clip_norm": "optimizer.clip_norm",
        "optax_name": "optimizer.name",
        "optax.mu_dtype": "optimizer.name",
        "input.pp": "input.transform",
        "ckpt_steps": "runtime.checkpoint_every",
        "log_training_steps": "runtime.log_every",
        "sharding_strategy": "runtime.strategy",
        "rng_seed": "seed",
    }
    assert {name: meanings.near(name, known)[:1] for name in theirs} == {
        name: [ours] for name, ours in theirs.items()
    }


def test_an_unknown_word_also_suggests_datasets(tmp_path, monkeypatch):
    (tmp_path / "my_flowers/1.0.0").mkdir(parents=True)
    (tmp_path / "my_flowers/1.0.0/features.json").touch()
    (tmp_path / "my_folders").mkdir()  # is no dataset
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    near = {
        "cifar11": {"cifar10", "cifar100"},
        "imagenet2013": {"imagenet2012"},
        "imagnet": {"imagenet2012"},
        "ImageNet-1k": {"imagenet2012"},
        "pets": {"oxford_iiit_pet"},
        "epochs": {"--config.total="},
        "mixer-b16": {"Mixer-B/16"},
        "dgits": {"digits"},
        "my_flowres": {"my_flowers"},
        "smok": {"smoke"},
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a run").mkdir()
    for place in ("a run/config.json", "weights.npz"):
        (tmp_path / place).touch()
    near |= {"my_folders": {"folder:my_folders"}, "./my_folders": {"folder:./my_folders"}}
    near |= {p: {f"--config.init_from={p}"} for p in ("a run", "weights.npz")}
    for word, expected in near.items():
        with pytest.raises(mixer.BadInput, match="unknown config argument") as error:
            quickstart.get_config(word)
        hint = str(error.value).partition("Did you mean ")[2].partition("?")[0]
        found = {name.strip("'") for name in hint.split(" or ")}
        assert expected <= found and "my_folders" not in found, (word, hint)


def test_the_meaning_of_a_key_is_its_comment():
    common = meanings.of_common()
    assert common["seed"] == "for the initial weights, data order, augmentation and dropout"
    above = common["init_from"]  # three lines above it
    assert above.startswith("Weights to start from: a") and above.endswith("published accuracies.")
    assert common["runtime"].startswith("Settings that do not affect the results")
    assert common["runtime.mesh.fsdp"] == common["runtime.mesh"]
    assert common["runtime.mesh"] == "Number of devices along the axis; -1: all that remain."
    assert meanings.of_entry("evaluator")["dataset"] == "empty: the one trained on"
    assert meanings.of_entry("fewshot")["shots"] == "examples per class"


def test_the_versions_are_those_that_results_record(said):
    code, out, err = said("--version")
    assert (code, err) == (0, "") and out.startswith(f"mixer {mixer.__version__}, code ")
    assert dict(line.split() for line in out.splitlines()[2:]) == software.versions()


def test_the_version_in_a_clone_is_its_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert mixer.__version__ == project["version"]


@pytest.mark.long
def test_the_installed_package_trains(data_dir, tmp_path):
    """The package installed elsewhere, with the user's own `configs` first on Python's path."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    copy = tmp_path / "clone"  # the build leaves folders
    copy.mkdir()
    for file in map(ROOT.joinpath, ("pyproject.toml", "requirements.txt", "README.md", "LICENSE")):
        shutil.copy(file, copy)
    for name in ("mixer", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    subprocess.run(
        [*pip, "--python", venv / "bin/python", "install", "--no-deps", copy], check=True
    )
    (site,) = venv.glob("lib/*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    folder = tmp_path / "elsewhere"
    (folder / "configs").mkdir(parents=True)
    (folder / "configs/__init__.py").write_text("raise ImportError('not these')")
    (folder / "mine.py").write_text(
        "from configs import quickstart\n"
        "def get_config(words=''):\n"
        "    config = quickstart.get_config(words)\n"
        "    config.seed = 3\n"
        "    return config\n"
    )
    write_spy(folder, tmp_path / "seen")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    env |= {"PYTHONPATH": ".", "XLA_FLAGS": "", "TFDS_DATA_DIR": str(data_dir)}

    def run(*arguments):
        return subprocess.run(
            [venv / "bin/mixer", *arguments], cwd=folder, env=env, capture_output=True, text=True
        )

    lines = (
        "import mixer; print(mixer.__file__, mixer.__version__)\n"
        f"print(mixer.Classifier('Mixer-Ti/4:cifar10')({str(ROOT)!r} + '/notebooks/images'))"
    )
    said = subprocess.run(
        [venv / "bin/python", "-c", lines], cwd=folder, env=env, capture_output=True, text=True
    ).stdout
    assert said.startswith(f"{site / 'mixer/__init__.py'} {mixer.__version__}\n")
    assert said.count("[Guess(name=") == 10 and "Guess(name='automobile', probability=0." in said
    assert (site / "mixer/py.typed").exists()
    assert "quickstart" in run("--help").stdout
    workers = ("--config.imports=spy", "--config.input.transform=watch|resize")
    workers += ("--config.runtime.workers=1",)
    done = run("--config=quickstart:smoke", "--workdir=x", *workers)
    assert done.returncode == 0, done.stderr
    results = json.loads((folder / "x/results.json").read_text())
    assert results["protocol"] == "quickstart:smoke" and results["commit"] is None
    assert (tmp_path / "seen").exists()
    own = run("--config=mine.py:smoke", "--help").stdout
    assert own.startswith("mine:smoke\n") and re.search(r"^\*  seed +3 ", own, re.MULTILINE)
    missing = run("--config=configs/quickstart.py", "--workdir=x")
    assert missing.returncode == 2
    assert "the recipe that comes with the package is --config=quickstart" in missing.stderr

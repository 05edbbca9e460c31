"""Rules of the rooms: who imports whom, what must not be imported, how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = (
    "models",
    "data",
    "prepare",
    "training",
    "checkpoint",
    "weights",
    "evaluation",
    "benchmark",
    "planning",
    "paper",
    "hosts",
)
# What every room may use.
LEAVES = {
    *("mixer.errors", "mixer.calls", "mixer.batch", "mixer.signals", "mixer.output"),
    "mixer.defaults",
    "mixer.storage",
}
# A dataset is prepared from what the sources know of images, folders and records; the weights of a
# workdir are those of its checkpoints.
USES = {"prepare": {"mixer.data"}, "weights": {"mixer.checkpoint"}}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(path):
    for name in imported(path):
        parts = name.split(".")
        if parts[0] in ("mixer", "configs"):
            yield ".".join(parts[:2])


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_import_each_other(room):
    for path in (ROOT / "mixer" / room).rglob("*.py"):
        strangers = set(ours(path)) - LEAVES - USES.get(room, set()) - {f"mixer.{room}"}
        # `from mixer import errors` reads as mixer.errors; the package itself is no room.
        assert not strangers, f"{path.relative_to(ROOT)} imports {sorted(strangers)}"


def test_private_parts_of_jax_are_used_in_one_file():
    for path in (ROOT / "mixer").rglob("*.py"):
        private = [name for name in imported(path) if name.startswith("jax._src")]
        assert not private or path.name == "runtime.py", path


def test_storage_imports_no_room():
    for path in (ROOT / "mixer" / "storage").rglob("*.py"):
        assert set(ours(path)) <= {"mixer.errors", "mixer.storage"}, path


def test_only_the_command_imports_the_runs():
    for path in (ROOT / "mixer").rglob("*.py"):
        if "runs" not in path.parts and path.name not in ("command.py", "help.py"):
            assert "mixer.runs" not in set(ours(path)), path


def test_no_file_is_long():
    for path in [*(ROOT / "mixer").rglob("*.py"), *(ROOT / "configs").glob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path
    assert len((ROOT / "mixer/models/mixer.py").read_text().splitlines()) <= 100


# What several runs build from the config.
BUILT = {
    *("data", "model", "update", "weights", "sam", "teacher", "evaluations", "fewshot_evaluation"),
    "soup",
    *("features_evaluation", "knn_evaluation"),
    *("bill", "estimate", "quoted", "training", "trained", "recorded", "past", "start", "sampling"),
    *("trainee", "probe"),
}


def test_only_runs_read_the_config():
    for path in (ROOT / "mixer").rglob("*.py"):
        tree = ast.parse(path.read_text())
        if path == ROOT / "mixer" / "command.py":  # which makes it
            continue
        if path.parent.name != "runs":
            assert "ml_collections" not in {name.split(".")[0] for name in imported(path)}, path
            continue
        is_run = any(isinstance(node, ast.FunctionDef) and node.name == "run" for node in tree.body)
        if is_run or path.stem in BUILT | {"keys"}:  # which follows the others' reading
            continue
        reads = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "config"
        }
        assert not reads, f"{path.name} reads config.{sorted(reads)}"


def test_data_imports_without_jax_and_everything_without_tensorflow():
    blocker = """if True:
        import sys
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "{}":
                    raise ImportError(name + " is blocked")
        sys.meta_path.insert(0, Blocker())
        import {}
    """

    def modules(folder):
        files = sorted((ROOT / folder).rglob("*.py"))
        files = [file for file in files if file.stem != "tf_data"]  # the benchmark's reference
        names = (str(file.relative_to(ROOT).with_suffix("")).replace("/", ".") for file in files)
        return ", ".join(name.removesuffix(".__init__") for name in names)

    without_jax = ", ".join(map(modules, ("mixer/data", "mixer/prepare", "mixer/storage")))
    for module, names in (("jax", without_jax), ("tensorflow", modules("mixer") + ", main")):
        code = blocker.format(module, names)
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)


def test_the_public_names_exist():
    import mixer

    for name in mixer.__all__:
        assert getattr(mixer, name).__doc__, name
    shown = [name for name in imported(ROOT / "mixer" / "__init__.py") if name.startswith("mixer.")]
    assert sorted(shown) == sorted(f"{module}.{name}" for name, module in mixer._PUBLIC.items())
    with pytest.raises(AttributeError, match="no attribute 'creat_model'"):
        _ = mixer.creat_model


def test_the_quick_tests_are_of_every_room():
    files = (ROOT / "tests" / "quick.txt").read_text().split()
    assert files == sorted(files) and all((ROOT / "tests" / file).is_file() for file in files)
    rooms = {folder.parent.name for folder in (ROOT / "tests").glob("*/test_*.py")}
    assert rooms - {"launch"} <= {file.partition("/")[0] for file in files}

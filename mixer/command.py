"""The command `mixer` (main.py in a clone): flags, error messages, exit codes, dispatch on `run`.

For a run on several hosts, start it on each with --coordinator, --num_processes and --process_id.
"""

import contextlib
import io
import os
import re
import sys
import types

from absl import flags, logging

# In other processes this entry is missing, or is the module __main__.
if getattr(sys.modules.get("__mp_main__"), "__name__", "") == "__mp_main__":
    # A data worker, which decodes images, also imports the file that its parent was started from.
    # Without this line Grain would import JAX in each worker.
    sys.modules["jax"] = None
    logging.set_verbosity(logging.ERROR)  # ... and would warn that JAX is missing
else:
    from ml_collections import config_flags

    config_flags.DEFINE_config_file("config", None, "Name or path of a recipe, then [:WORDS].")
    flags.DEFINE_string("workdir", None, "Folder for the output of this run.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, for several processes.")
    flags.DEFINE_integer("num_processes", None, "Number of processes.")
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.")

# What Python and absl say of a value of the wrong type, and what was expected.
_OF_PYTHON = {"for int()": "a whole number", "to float": "a number", "boolean": "True or False"}
_HELP = {f"{dashes}{name}" for dashes in ("-", "--") for name in ("h", "help", "helpfull")}


def main() -> int:
    """Parses the command line, checks it and runs it.

    Returns:
      The exit code: 0 if the run is complete or stopped after saving, 1 if it failed, 2 for bad
      input.
    """
    from mixer import signals
    from mixer.errors import BadInput

    # File names may hold bytes that are not UTF-8, which the terminal cannot show.
    sys.stdout.reconfigure(errors="backslashreplace")
    argv = [arg for arg in sys.argv if arg not in _HELP | {"--version"}]
    with signals.leaving_at_once():
        try:
            if len(argv) < len(sys.argv):
                return _help(argv)
            config, protocol = _parse(argv)
            workdir = flags.FLAGS.workdir
            if not workdir and config.run not in ("show", "predict", "plan"):
                raise BadInput("--workdir is missing: the folder for this run's output")
        except BadInput as error:
            return _fail(str(error), 2)
        from mixer.hosts import parting

    return parting.leave(_run(config, workdir, protocol))


def _help(argv: list[str]) -> int:
    """Prints an overview or, if a recipe is given, its description and its keys; or versions."""
    from mixer import help as texts
    from mixer import output

    if "--version" in sys.argv:
        text = texts.versions()
    elif recipe := _value(argv, "config"):
        text = texts.of_recipe(recipe, *_parse(argv, whole=True))
    else:
        text = texts.overview()
    with output.tolerate_closed():
        print(text, flush=True)
    return 0


def _run(config, workdir: str, protocol: str) -> int:
    from mixer import signals

    with signals.leaving_at_once():
        from mixer import output, runs, storage
        from mixer.errors import BadInput, Failure
        from mixer.hosts import compiled, devices, exchange, joining, parting, peers
        from mixer.runs import keys

    who = ""
    try:
        joining.start(
            flags.FLAGS.coordinator, flags.FLAGS.num_processes, flags.FLAGS.process_id, config.run
        )
        who = f"{peers.name()}: " if peers.count() > 1 else ""
        # `doctor` reports all problems, not only the first; `show` computes nothing; the devices of
        # `plan` need not be here.
        if config.run not in ("doctor", "show", "plan"):
            exchange.same_command(keys.flat(keys.as_json(config), "config."), workdir, protocol)
            devices.check(peers.count())
            compiled.keep()
        with signals.leaving_at_once():
            module = runs.load(config.run)
        module.run(config, workdir, protocol)
    except BadInput as error:
        return _fail(f"{who}{error}", 2)
    except KeyboardInterrupt:
        _fail(f"{who}interrupted. {parting.last_checkpoint()}".strip(), 1)
        with output.tolerate_closed():
            sys.stdout.flush()
        # Python would wait for threads, which may try for minutes to reach an object store.
        os._exit(1)
    except (Failure, OSError) as error:  # such as a full disk, or a folder that became read-only
        if isinstance(error, BrokenPipeError) and output.discard_if_closed():
            return 1  # the reader of our output has exited, as `| head` does
        return _fail(f"{who}{'standard output: ' * _is_of_output(error)}{error}", 1)
    except Exception as error:
        if storage.is_of_client(error):
            reason = storage.trouble(error)[1]
            return _fail(f"{who}the object store cannot be used: {reason}", 1)
        exhausted = "RESOURCE_EXHAUSTED" in str(error)  # JAX has no class for it
        if exhausted:
            from mixer.defaults import LESS_MEMORY

            reason = str(error).splitlines()[0]
            _fail(f"{who}the memory of the devices is too small: {reason}; {LESS_MEMORY}", 1)
        if who:
            parting.end(error)
        if exhausted:
            return 1
        raise
    return 0


def _is_of_output(error: Exception) -> bool:
    """Whether an error is of standard output, such as a full disk. Python does not record that."""
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    try:
        os.write(1, b"\n")
    except OSError as again:
        return again.errno == error.errno
    return False


def _fail(message: str, code: int) -> int:
    from mixer import output

    with output.tolerate_closed():
        print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def _parse(argv: list[str], *, whole: bool = False):
    """Parses the flags into (config, protocol); see `recipes.load` for `whole`.

    Raises:
      BadInput: every mistake.
    """
    from mixer import recipes
    from mixer.errors import BadInput
    from mixer.runs import keys

    given = _value(argv, "config")
    if not given:
        raise BadInput("--config is missing: for instance --config=quickstart; see --help")
    name, colon, words = given.partition(":")
    recipe = f"{recipes.find(name)}{colon}{words}"
    recipes.make_importable()
    _check_before_parsing(argv, name)

    def load(path):
        config = recipes.load(path, run=_value(argv, "config.run"), whole=whole)
        keys.check_levels([arg.partition("=")[0] for arg in argv], config)
        return config

    # Replaces the library's own parser, which knows nothing about runs.
    flags.FLAGS["config"].parser = types.SimpleNamespace(parse=load)
    try:
        rest = flags.FLAGS(_with_value(argv, "config", recipe))
        config = flags.FLAGS.config
    except (flags.Error, OSError, KeyError, AttributeError, ImportError, SyntaxError) as error:
        raise BadInput(_flag_message(error, argv, recipe)) from None
    if len(rest) > 1:
        raise BadInput(f"unexpected argument {rest[1]!r}: give everything as --flag=value")
    protocol = re.sub(r"^(?:.*/)?([^/:]+?)\.py(?=:|$)", r"\1", given)
    return keys.track(config, _given(words)), protocol


def _given(words: str) -> dict[str, tuple[str, ...]]:
    """The config keys that the command sets: {flag or word: keys}."""
    from configs import arguments

    values = flags.FLAGS["config"].override_values
    by_flag = {f"--config.{key}={value}": (key,) for key, value in values.items()}
    return by_flag | arguments.keys_of(words)


def _value(argv: list[str], flag: str) -> str:
    """The value of --flag=value or --flag value, found before the flags are parsed."""
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        if name in (f"--{flag}", f"-{flag}"):
            return value if equals else following
    return ""


def _with_value(argv: list[str], flag: str, value: str) -> list[str]:
    """`argv` with another value of a flag, as --flag=value."""
    found = list(argv)
    for i, arg in enumerate(argv):
        if arg.partition("=")[0] in (f"--{flag}", f"-{flag}"):
            found[i : i + 1 + ("=" not in arg)] = [f"--{flag}={value}"]
            break
    return found


def _check_before_parsing(argv: list[str], recipe: str) -> None:
    # The words of the recipe may name models and datasets that the user's modules register, and
    # datasets in data_dir.
    from mixer import errors
    from mixer.models import registry
    from mixer.runs import imports

    imports.import_modules(_value(argv, "config.imports"))
    if data_dir := _value(argv, "config.runtime.data_dir"):
        os.environ["TFDS_DATA_DIR"] = data_dir
    if name := _value(argv, "config.model.name"):
        registry.model_fields(name)
        raise errors.BadInput(
            f"--config.model.name={name}: the recipe also sets the other fields of the model by "
            f"its name, so give the name to the recipe: --config={recipe}:{name}"
        )


def _flag_message(error: Exception, argv: list[str], recipe: str) -> str:
    """The informative line of a flag-library error, with the nearest key."""
    from configs import groups

    if isinstance(error, KeyError | AttributeError):
        # Two lines within quotes: the key, and the nearest key of its group, if any.
        first, _, near = str(error.args[0]).replace("\\n", "\n").strip("'\"").partition("\n")
        added = re.match(r'Key "(.*?)" does not exist and cannot be added', first)
        if added and not groups.runs_with(added[1]):
            # The recipe itself fails, so its own keys cannot be searched.
            hint = f". {near}" if near else _hint(added[1], argv, "")
            return f"the recipe sets {added[1]!r}, but there is no such key{hint}"
        key = added[1] if added else first.strip("'\"\\")
        arg = next((a for a in argv if key in a.partition("=")[0].split(".")), key)
        name = arg.partition("=")[0].lstrip("-")
        if runs := groups.runs_with(name.removeprefix("config.")):
            belongs = f"--config.run={' or '.join(runs)}"
            if arg == key:
                return (
                    f"the recipe sets {key!r}, which only {belongs} has: its get_config must take "
                    f"`run` as well as the words, and pass it on"
                )
            asked = _value(argv, "config.run") or _whole(recipe).run
            if asked not in runs:
                return (
                    f"{arg} would not be used: config.run={asked} does not read it. {name} belongs "
                    f"to {belongs}. Leave it out"
                )
        return f"unknown config key {name!r}{_hint(name, argv, recipe)}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[-1] if lines else repr(error)
    if given := re.match(r"flag (--config\.\S+=.*?): ", message):
        expected = (plain for python, plain in _OF_PYTHON.items() if python in message)
        message = next((f"{given[1]}: expected {plain}" for plain in expected), message)
    if isinstance(error, flags.UnrecognizedFlagError) and "Did you mean" not in message:
        message += _hint(error.flagname, argv, recipe, "--config.")
    return message


def _hint(name: str, argv: list[str], recipe: str, prefix: str = "") -> str:
    """A sentence with the keys that a user who wrote `name` may have meant."""
    from configs import meanings

    near = meanings.near(name.removeprefix("config."), _keys_of(recipe))
    if not near:
        return f". All keys: --config={_value(argv, 'config')} --help"
    return f". Did you mean {' or '.join(meanings.shown(key, prefix) for key in near)}?"


def _keys_of(recipe: str) -> list[str]:
    """All keys of the recipe or, if the recipe itself fails, those that every recipe has."""
    from configs import meanings
    from mixer.runs import keys

    if not recipe:
        return meanings.common_keys()
    return list(keys.flat(keys.as_json(_whole(recipe))))


def _whole(recipe: str):
    """The recipe's config with the keys of all runs; hides what the recipe prints a second time."""
    from mixer import recipes

    with contextlib.redirect_stdout(io.StringIO()):
        return recipes.load(recipe, whole=True)

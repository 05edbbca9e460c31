"""python main.py --config=configs/NAME.py[:ARGS] --workdir=DIR [--config.KEY=VALUE ...]

On many hosts, in a process of each: --coordinator=HOST:PORT --num_processes=N --process_id=I
"""

import os
import re
import sys
from pathlib import Path

from absl import flags, logging

if __name__ == "__mp_main__":
    # A data worker: it decodes images. Without this, Grain would import JAX into each.
    sys.modules["jax"] = None
    logging.set_verbosity(logging.ERROR)  # ... and say that it misses it
else:
    from ml_collections import ConfigDict, config_flags

    config_flags.DEFINE_config_file("config", None, "Recipe: configs/NAME.py[:ARGS].")
    flags.DEFINE_string("workdir", None, "Output folder of this run.")
    flags.DEFINE_string("coordinator", None, "Of several processes: HOST:PORT of the first.")
    flags.DEFINE_integer("num_processes", None, "How many processes there are.")
    flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def main(argv: list[str]) -> int:
    """Parses, checks, runs.

    Returns:
      The exit code: 0 complete or stopped after saving, 1 failed, 2 bad input.
    """
    from mixer.errors import BadInput

    # A name that the terminal cannot show, such as that of a file which is not UTF-8.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        config, workdir, protocol = _parse(argv)
    except BadInput as error:
        return _fail(str(error), 2)
    from mixer.runs import distributed

    return distributed.leave(_run(config, workdir, protocol))


def _run(config, workdir: str, protocol: str) -> int:
    from mixer import output, runs, storage
    from mixer.errors import BadInput, Failure
    from mixer.runs import agreement, devices, distributed

    who = ""
    try:
        distributed.start(
            flags.FLAGS.coordinator, flags.FLAGS.num_processes, flags.FLAGS.process_id, config.run
        )
        who = f"{distributed.name()}: " if distributed.count() > 1 else ""
        if config.run != "doctor":  # which says all that is wrong, not the first of it
            agreement.same_command(config, workdir, protocol)
            devices.check(distributed.count())
        runs.load(config.run).run(config, workdir, protocol)
    except BadInput as error:
        return _fail(f"{who}{error}", 2)
    except KeyboardInterrupt:
        _fail(f"{who}interrupted. {distributed.last_checkpoint()}".strip(), 1)
        with output.outliving_readers():
            sys.stdout.flush()
        os._exit(1)  # Python would wait for threads: to a store out of reach they write for minutes
    except (Failure, OSError) as error:  # a full disk, a folder that may not be written any more
        if isinstance(error, BrokenPipeError) and output.to_nobody():
            return 1  # whoever read our output has left (`| head`)
        return _fail(f"{who}{'standard output: ' * _is_of_output(error)}{error}", 1)
    except Exception as error:
        if storage.is_of_client(error):
            reason = storage.trouble(error)[1]
            return _fail(f"{who}the object store cannot be used: {reason}", 1)
        if who:
            distributed.end(error)
        raise
    return 0


def _is_of_output(error: Exception) -> bool:
    """Whether what was printed found no room: Python does not say so."""
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    try:
        os.write(1, b"\n")
    except OSError as again:
        return again.errno == error.errno
    return False


def _fail(message: str, code: int) -> int:
    from mixer import output

    with output.outliving_readers():
        print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def _parse(argv: list[str]):
    """Flags -> (config, workdir, protocol), every mistake as `BadInput`."""
    from mixer.errors import BadInput
    from mixer.runs import keys

    recipe = _value(argv, "config")
    if not recipe:
        raise BadInput("--config is missing: for instance --config=configs/quickstart.py")
    _check_before_parsing(argv, recipe)
    try:
        rest = flags.FLAGS(argv)
        config = flags.FLAGS.config
        config.to_dict()  # an error of the recipe surfaces at the first access
    except (flags.Error, OSError, KeyError, AttributeError, ImportError, SyntaxError) as error:
        raise BadInput(_flag_message(error, argv)) from None
    if len(rest) > 1:
        raise BadInput(f"unexpected argument {rest[1]!r}: everything is given as --flag=value")
    if not flags.FLAGS.workdir:
        raise BadInput("--workdir is missing: the folder for this run's output")
    protocol = re.sub(r"^(?:.*/)?([^/:]+?)\.py(?=:|$)", r"\1", recipe)
    return keys.follow(config, _given(recipe)), flags.FLAGS.workdir, protocol


def _given(recipe: str) -> dict[str, tuple[str, ...]]:
    """What the command sets itself: by how it does, the keys that are set."""
    from configs import arguments
    from mixer.errors import BadInput

    values = flags.FLAGS["config"].override_values
    for key, value in values.items():
        if isinstance(value, ConfigDict):
            raise BadInput(
                f"config.{key} is a group of keys: set them one by one, --config.{key}.KEY=VALUE"
            )
    by_flag = {f"--config.{key}={value}": (key,) for key, value in values.items()}
    return by_flag | arguments.keys_of(recipe.partition(":")[2])


def _value(argv: list[str], flag: str) -> str:
    """The value of --flag=value or --flag value, before anything is parsed."""
    names = (f"--{flag}", f"-{flag}")
    for arg, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = arg.partition("=")
        if name in names:
            return value if equals else following
    return ""


def _check_before_parsing(argv: list[str], recipe: str) -> None:
    # The recipe's arguments may name models and datasets that the user's modules register, and
    # datasets that lie in the data_dir.
    from mixer import errors
    from mixer.models import registry
    from mixer.runs import imports

    file = Path(recipe.split(":", 1)[0])
    if not file.is_file():
        near = [f for f in file.parent.glob("*.py") if "def get_config" in f.read_text()]
        raise errors.unknown("config file", str(file), map(str, near))
    imports.import_modules(_value(argv, "config.imports"))
    if data_dir := _value(argv, "config.runtime.data_dir"):
        os.environ["TFDS_DATA_DIR"] = data_dir
    if name := _value(argv, "config.model.name"):
        registry.model_fields(name)
        raise errors.BadInput(
            f"--config.model.name={name}: the recipe sets the other fields by the name, so give it "
            f"to the recipe: --config={file}:{name}"
        )


def _flag_message(error: Exception, argv: list[str]) -> str:
    """The line of the flag library's message that says what is wrong."""
    if isinstance(error, KeyError | AttributeError):
        # Two lines within quotes: the key, and what is near it.
        first, _, hint = str(error.args[0]).replace("\\n", "\n").strip("'\"").partition("\n")
        if added := re.match(r'Key "(.*?)" does not exist and cannot be added', first):
            return f"the recipe sets {added[1]!r}, and there is no such key. {hint}".strip()
        key = first.strip("'\"\\")
        arg = next((a for a in argv if key in a.partition("=")[0].split(".")), key)
        return f"unknown config key {arg.partition('=')[0].lstrip('-')!r}. {hint}".strip()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv))

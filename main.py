"""python main.py --config=configs/NAME.py[:ARGS] --workdir=DIR [--config.KEY=VALUE ...]"""

import importlib
import re
import sys

from absl import flags

if __name__ == "__mp_main__":
    # A data worker: it decodes images. Without this, Grain would import JAX into each.
    sys.modules["jax"] = None
else:
    from ml_collections import config_flags

    config_flags.DEFINE_config_file("config", None, "Recipe: configs/NAME.py[:ARGS].")
    flags.DEFINE_string("workdir", None, "Output folder of this run.")


def main(argv: list[str]) -> int:
    """Parses, checks, runs.

    Returns:
      The exit code: 0 complete or stopped after saving, 1 failed, 2 bad input.
    """
    from mixer.errors import BadInput

    try:
        config, workdir, protocol = _parse(argv)
        from mixer import runs

        runs.load(config.run).run(config, workdir, protocol)
    except BadInput as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the last checkpoint stands", 1)
    except Exception as error:
        if type(error).__name__ not in ("NonFiniteLoss", "DamagedCheckpoint"):
            raise
        return _fail(str(error), 1)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr, flush=True)
    return code


def _parse(argv: list[str]):
    """Flags -> (config, workdir, protocol), every mistake as `BadInput`."""
    from mixer.errors import BadInput

    _import_early(argv)
    try:
        rest = flags.FLAGS(argv)
        config = flags.FLAGS.config
        run = config.run if config is not None else None
    except (flags.Error, OSError, KeyError, AttributeError, ImportError, SyntaxError) as error:
        raise BadInput(_flag_message(error)) from None
    if len(rest) > 1:
        raise BadInput(f"unexpected argument {rest[1]!r}: everything is given as --flag=value")
    if run is None:
        raise BadInput("--config is missing: for instance --config=configs/quickstart.py")
    if not flags.FLAGS.workdir:
        raise BadInput("--workdir is missing: the folder for this run's output")
    recipe = next(a.split("=", 1)[1] for a in argv if re.match(r"--?config=", a))
    protocol = re.sub(r"^(?:.*/)?([^/:]+?)\.py(?=:|$)", r"\1", recipe)
    return config, flags.FLAGS.workdir, protocol


def _import_early(argv: list[str]) -> None:
    # The recipe's arguments may name models and datasets that these modules register.
    from mixer.runs import imports

    for arg in argv:
        if match := re.match(r"--?config\.imports=(.*)", arg):
            imports.import_modules(match[1])


def _flag_message(error: Exception) -> str:
    text = str(error).strip().strip('"')
    return next((line for line in reversed(text.splitlines()) if line.strip()), repr(error))


if __name__ == "__main__":
    sys.exit(main(sys.argv))

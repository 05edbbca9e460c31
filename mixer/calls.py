"""Parses the calls in configs, such as `name(1, key=2)|other`, without evaluating any code."""

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mixer import errors


def split(text: str) -> list[str]:
    """Splits `a(1)|b` at the bars into its calls, without surrounding spaces."""
    return [part.strip() for part in text.split("|")] if text.strip() else []


def parse(text: str) -> tuple[str, tuple, dict[str, Any]]:
    """Parses one call: `crop(224, area=0.5)` -> `("crop", (224,), {"area": 0.5})`.

    Raises:
      BadInput: the text is neither a name nor a call of a name with literal arguments.
    """
    hint = ""
    try:
        node = ast.parse(text, mode="eval").body
        if isinstance(node, ast.Name):
            return node.id, (), {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            bare = next((value.id for value in values if isinstance(value, ast.Name)), "")
            hint = f". Text needs quotes: '{bare}'" if bare else ""
            args = tuple(ast.literal_eval(arg) for arg in node.args)
            kwargs = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
            if None not in kwargs:
                return node.func.id, args, kwargs
    except (SyntaxError, ValueError):
        pass
    raise errors.BadInput(
        f"cannot read {text!r}: expected name or name(argument, key=value) with plain numbers, "
        f"strings or tuples as arguments{hint}"
    )


def signature(name: str, function: Callable) -> str:
    """The signature for error messages, such as `name(size, area=(0.05, 1.0))`."""
    parameters = inspect.signature(function).parameters.values()
    shown = (p.replace(annotation=inspect.Parameter.empty) for p in parameters)
    return f"{name}({', '.join(str(p) for p in shown)})"


def build(kind: str, text: str, table: Mapping[str, Callable], **defaults) -> Any:
    """Calls `table[name]` with the arguments in `text`.

    Args:
      kind: what the table holds, for error messages.
      **defaults: arguments for those of the function's parameters that `text` leaves out.

    Raises:
      BadInput: unknown name, or arguments that do not fit; the message shows the signature.
    """
    name, args, kwargs = parse(text)
    if name not in table:
        raise errors.unknown(kind, name, table)
    parameters = inspect.signature(table[name]).parameters
    try:
        given = inspect.signature(table[name]).bind_partial(*args, **kwargs).arguments
        filled = {k: v for k, v in defaults.items() if k in parameters and k not in given}
        return table[name](*args, **kwargs, **filled)
    except (TypeError, ValueError) as error:
        shown = signature(name, table[name])
        raise errors.BadInput(f"{kind} {text!r}: {error}. Its signature is {shown}") from None

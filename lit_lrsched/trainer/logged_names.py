"""Which metrics a class logs, by its source."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

_ANY = ".+"
# Their classes log nothing of their own.
_OF_LIBRARIES = ("builtins", "lightning", "lightning_fabric", "pytorch_lightning", "torch", "abc", "typing")


class LoggedNames(NamedTuple):
    """The names that a source logs.

    Args:
        patterns: Regular expressions: a name as it stands, with ``.+`` where the source fills something in.
        complete: Whether there can be no others: every name is written out where it is logged.
    """

    patterns: list[str]
    complete: bool

    def include(self, name: str) -> bool:
        """Returns whether a name is among them."""
        # Lightning appends these where one metric is logged in two ways, or from several loaders.
        stem = re.sub(r"(_step|_epoch)?(/dataloader_idx_\d+)?$", "", name)
        return any(re.fullmatch(pattern, candidate) for pattern in self.patterns for candidate in (name, stem))

    @property
    def readable(self) -> list[str]:
        """The names for a message, with ``*`` where the source fills something in."""
        return sorted({pattern.replace(_ANY, "*").replace("\\", "") for pattern in self.patterns} - {"*"})


def logged_names(classes: Iterable[type]) -> LoggedNames:
    """Returns the names in calls of ``log`` and ``log_dict`` in the source of classes and what they inherit.

    >>> class Module:
    ...     pass
    >>> logged_names([Module])
    LoggedNames(patterns=[], complete=False)
    """
    patterns: list[str] = []
    complete = True
    for each in dict.fromkeys(base for one in classes for base in one.__mro__):
        package = each.__module__.split(".")[0]
        if package in _OF_LIBRARIES and ".demos." not in each.__module__:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError, SyntaxError):
            complete = False
            continue
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                complete = complete and not _lets_others_log(function)
                for name in _logged_in(function):
                    patterns += [name] if name else []
                    complete = complete and name is not None
    return LoggedNames(list(dict.fromkeys(patterns)), complete)


def _logged_in(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str | None]:
    """Yields a pattern for each name that a function logs, None for a name that is computed."""
    values = _values(function)
    for call in ast.walk(function):
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in _CALLS):
            continue
        argument = (
            call.args[0] if call.args else next((k.value for k in call.keywords if k.arg in _CALLS.values()), None)
        )
        if call.func.attr == "log":
            yield from _names(argument, values)
        elif isinstance(argument, ast.Dict):
            for key in argument.keys:
                yield from _names(key, values)
        else:
            yield None


def _lets_others_log(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Returns whether a function passes the module, or its ``log``, to code that is not read here."""
    modules = {argument.arg for argument in function.args.args if argument.arg in ("self", "pl_module", "module")}
    called = {id(call.func) for call in ast.walk(function) if isinstance(call, ast.Call)}
    read = [node for node in ast.walk(function) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)]
    if any(node.attr in _CALLS and id(node) not in called for node in read):
        return True
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and not _cannot_log(node.func):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            if any(isinstance(value, ast.Name) and value.id in modules for value in given):
                return True
    return False


def _cannot_log(called: ast.expr) -> bool:
    """Returns whether a call is one of the class's own methods, which are read, or a builtin that logs nothing."""
    if isinstance(called, ast.Attribute):
        owner = called.value
        is_super = isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
        return is_super or (isinstance(owner, ast.Name) and owner.id in ("self", "pl_module"))
    return isinstance(called, ast.Name) and called.id in (
        "super",
        "isinstance",
        "type",
        "getattr",
        "hasattr",
        "setattr",
    )


_CALLS = {"log": "name", "log_dict": "dictionary"}


def _values(function: ast.AST) -> dict[str, list[ast.expr | None]]:
    """Returns what each variable of a function is set to, where that is written out: by ``=`` or in a ``for``.

    None is among the values of one that is set in another way as well: an argument, or one that ``+=`` changes.
    """
    found: dict[str, list[ast.expr | None]] = {}
    written_out: list[ast.expr] = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
                    written_out.append(target)
        elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            items = node.iter.elts if isinstance(node.iter, (ast.Tuple, ast.List)) else [node.iter]
            found.setdefault(node.target.id, []).extend(items)
            written_out.append(node.target)
    for node in ast.walk(function):
        is_set = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in written_out
        name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) and is_set else ""
        if name in found:
            found[name].append(None)
    return found


def _names(node: ast.expr | None, values: dict[str, list[ast.expr | None]], depth: int = 0) -> Iterator[str | None]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.escape(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = [re.escape(str(part.value)) if isinstance(part, ast.Constant) else _ANY for part in node.values]
        yield "".join(parts)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        sides = ([name or _ANY for name in _names(side, values, depth + 1)] for side in (node.left, node.right))
        yield from map("".join, product(*sides))
    elif isinstance(node, ast.Name) and node.id in values and depth < 3:
        for value in values[node.id]:
            yield from _names(value, values, depth + 1)
    else:
        yield None

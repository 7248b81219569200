"""The code of a model that is the user's own rather than a library's, and the values from outside that it uses."""

from __future__ import annotations

import dis
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from linecache import getline
from pathlib import Path
from textwrap import shorten
from traceback import walk_tb
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

MEMBERS = ("LOAD_ATTR", "LOAD_METHOD")
"""The operations that name a member."""


def is_of_library(value: Any) -> bool:
    """Returns whether a class or function is Python's own, an installed package's or this one's."""
    return _is_library((getattr(value, "__module__", None) or "builtins").partition(".")[0])


def members_of(kind: type) -> Iterator[tuple[type, str, Any]]:
    """Yields what a class and its bases hold, libraries' left out: the class, the name, and the value or function."""
    for base in kind.__mro__:
        if not is_of_library(base):
            for name, member in vars(base).items():
                yield base, name, getattr(member, "__func__", getattr(member, "fget", member))


def from_outside(function: FunctionType) -> dict[str, Any]:
    """Returns the values from outside that a function uses; of the user's modules those members that it names."""
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    found = {name: cell.cell_contents for name, cell in cells if cell != CellType()}
    loaded, members = names_in(code, "LOAD_GLOBAL", "LOAD_NAME"), names_in(code, *MEMBERS)
    for name in sorted(loaded & function.__globals__.keys()):
        held = function.__globals__[name]
        if isinstance(held, ModuleType) and not _is_library(held.__name__.partition(".")[0]):
            named = {member: vars(held)[member] for member in sorted(members & vars(held).keys())}
            held = {member: one for member, one in named.items() if not isinstance(one, ModuleType)}
        found[name] = held
    return {name: held for name, held in found.items() if not isinstance(held, ModuleType)}


@cache
def names_in(code: CodeType, *operations: str) -> frozenset[str]:
    """Returns the names that operations of a function, and of those within it, have as their argument."""
    inner = (part for part in code.co_consts if isinstance(part, CodeType))
    own = {each.argval for each in dis.get_instructions(code) if each.opname in operations}
    return frozenset(own).union(*(names_in(part, *operations) for part in inner))


def functions_of(kinds: Iterable[type]) -> list[FunctionType]:
    """Returns the methods of classes, and the functions that these use by their name, however deep.

    A decorated function is two: what the decorator made of it, and what it was.
    """
    left = [member for kind in kinds for _, _, member in members_of(kind) if callable(member)]
    found: dict[FunctionType, None] = {}
    while left:
        outer = left.pop()
        for function in (outer, inspect.unwrap(outer)):
            if inspect.isfunction(function) and function not in found and not _is_made_by_library(function):
                found[function] = None
                for value in from_outside(function).values():
                    left += [one for one in (value.values() if isinstance(value, dict) else [value]) if callable(one)]
    return list(found)


def line_of(error: Exception) -> str:
    """Returns in brackets the last line of the user's own code on the way to an error; nothing where there is none."""
    steps = [step for one in (error, error.__cause__) if one for step in walk_tb(one.__traceback__)]
    own = [step for step in steps if not _is_in_library(step[0].f_globals)]
    if not own:
        return ""
    frame, number = own[-1]
    file = frame.f_code.co_filename
    code = shorten(getline(file, number, frame.f_globals), width=80, placeholder=" ...")
    return f" (line {number} of {Path(file).name}{code and f': {code}'})"


def _is_made_by_library(function: FunctionType) -> bool:
    """Returns whether a library has the code: what a decorator of one makes, its name and module do not tell."""
    return _is_in_library(function.__globals__)


def _is_in_library(names: Mapping[str, Any]) -> bool:
    module = names.get("__name__")  # what a library compiles as it runs has none
    return module is None or _is_library(module.partition(".")[0])


@cache
def _is_library(package: str) -> bool:
    if package == "lit_lrsched" or package in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return not {"site-packages", "dist-packages"}.isdisjoint(Path(file).parts)

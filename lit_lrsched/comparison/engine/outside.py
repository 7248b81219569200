"""What the methods of a module see outside of it: numbers, text and tensors in globals, closures and classes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from lightning.pytorch import LightningModule

from lit_lrsched.comparison.engine.held import contents, is_of_others

_INSTALLED = frozenset(["site-packages", "dist-packages"])

#: Returns what lies in one place now.
Look = Callable[[], Any]


class Outside:
    """What the methods of a module, and the functions that they call by name, see outside of it.

    Installed libraries are left out: what they keep changes for reasons of their own.

    Args:
        module: The module.
    """

    def __init__(self, module: LightningModule) -> None:
        kinds = {kind for part in module.modules() for kind in type(part).__mro__ if not _is_library(kind.__module__)}
        self._looks: dict[str, Look] = {}
        functions: list[FunctionType] = []
        for kind in kinds:
            for name, value in vars(kind).items():
                if isinstance(function := _function_of(value), FunctionType):
                    functions.append(function)
                elif not name.startswith("__"):
                    self._looks[f"{kind.__name__}.{name}"] = _attribute(kind, name)
        seen: set[FunctionType] = set()
        while functions:
            function = functions.pop()
            if function in seen or _is_library(function.__module__):
                continue
            seen.add(function)
            for name in _names(function.__code__):
                value = function.__globals__.get(name)
                if isinstance(value, FunctionType):
                    functions.append(value)
                elif not _is_of_no_interest(value):
                    self._looks[name] = _entry(function.__globals__, name)
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                self._looks[name] = partial(getattr, cell, "cell_contents")

    def now(self) -> dict[str, Any]:
        """Returns the numbers and text in all that is seen, and which tensors, by name."""
        found = {}
        for name, look in self._looks.items():
            try:
                value = look()
            except ValueError:  # of a variable that has no value yet
                continue
            if not _is_of_no_interest(value) and (within := contents(value, set())) is not None:
                found[name] = within
        return found


def _is_library(module: str) -> bool:
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return is_of_others(module) or not _INSTALLED.isdisjoint(Path(file).parts)


def _function_of(value: Any) -> Any:
    if isinstance(value, property):
        value = value.fget
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    return inspect.unwrap(value) if callable(value) else value


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a function within
            yield from _names(constant)


def _is_of_no_interest(value: Any) -> bool:
    return inspect.ismodule(value) or inspect.isroutine(value) or isinstance(value, (type, LightningModule))


def _attribute(kind: type, name: str) -> Look:
    return lambda: vars(kind).get(name)


def _entry(names: dict[str, Any], name: str) -> Look:
    return lambda: names.get(name)

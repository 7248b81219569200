"""Class paths: configuration as plain values, class path and arguments as in YAML, instead of live objects.

A checkpoint that holds live objects cannot be loaded with ``weights_only=True``; one that holds these can.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any, cast

from lit_lrsched.errors import InputError, did_you_mean, shown

_PACKAGE = __name__.partition(".")[0]

# Where arguments stand beside a class path; the second is jsonargparse's, for what a class takes by its ``**kwargs``.
_ARGUMENTS = ("init_args", "dict_kwargs")


class WrittenAs(ABC):
    """An object that configuration writes as something else, such as a wrapped function as the function's path."""

    @abstractmethod
    def written_as(self) -> object:
        """Returns what to write in its place."""


def to_plain(value: Any) -> Any:
    """Returns numbers, strings, lists and dicts that :func:`from_plain` turns back into the value.

    A dataclass, a ``functools.partial``, a class or a module's function becomes ``{"class_path", "init_args"}``.

    Raises:
        InputError: For an object that no import path leads to, such as a lambda.

    >>> from lit_lrsched.schedules import Constant
    >>> to_plain(Constant(0.5))
    {'class_path': 'lit_lrsched.Constant', 'init_args': {'factor': 0.5}}
    """
    if isinstance(value, float):
        return float(value)  # NumPy's are of a class of their own, which neither YAML nor a checkpoint takes
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, WrittenAs):
        return to_plain(value.written_as())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        arguments = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        return {"class_path": import_path(type(value)), "init_args": to_plain(arguments)}
    if isinstance(value, partial) and (_is_jsonargparse(value) or not value.args):
        return {"class_path": import_path(without_partial(value)), "init_args": to_plain(value.keywords)}
    return {"class_path": import_path(value)}


def without_partial(value: Any) -> Any:
    """Returns the class or function that a ``functools.partial``, also one made by jsonargparse, calls in the end."""
    if not isinstance(value, partial):
        return value
    return value.args[-1] if _is_jsonargparse(value) else value.func


def _is_jsonargparse(value: partial[Any]) -> bool:
    return value.func.__module__.startswith("jsonargparse")  # the class stands behind jsonargparse's own arguments


def import_path(value: Any) -> str:
    """Returns the shortest dotted path that leads to a class or function: the public one, where there is one.

    So what is written to a file does not name the module that a class lives in, and modules may move.

    Raises:
        InputError: When none does.

    >>> from lit_lrsched.schedules.decays import Cosine
    >>> import_path(Cosine)
    'lit_lrsched.Cosine'
    """
    name = getattr(value, "__qualname__", None)
    packages = (getattr(value, "__module__", None) or "").split(".")
    for depth in range(len(packages)):
        path = f"{'.'.join(packages[: depth + 1])}.{name}"
        with suppress(InputError):
            if _found_in(_module_of(path), path) is value:
                return path
    raise InputError(f"{shown(value)} cannot be written as configuration: give a class or a function of a module")


def import_from(path: str) -> Any:
    """Returns the class or function at a dotted path.

    A module that exists and itself imports something missing is a defect of that module: it keeps its traceback. A path
    into this package that earlier versions wrote leads to the public class of that name.

    Raises:
        InputError: When the module or the name does not exist.

    >>> import_from("lit_lrsched.schedules.shapes.Cosin")
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: 'lit_lrsched.schedules.shapes.Cosin': the module has no 'Cosin' (did you mean ...
    """
    module = _module_of(path)
    found, name = _found_in(module, path), path.rpartition(".")[2]
    if found is None and not hasattr(module, name):
        raise InputError(
            f"{shown(path)}: the module has no {name!r}{did_you_mean(name, dir(module))}: name what is in it"
        )
    return found


def _module_of(path: str) -> ModuleType:
    """Returns the module that a dotted path names, or this package where the module was part of an earlier version."""
    if not isinstance(path, str):
        raise InputError(f"class_path={shown(path)} is not text: write an import path like 'package.module.Class'")
    module_name = path.rpartition(".")[0]
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        raise InputError(f"{shown(path)} is not an import path: write it as 'package.module.name'")
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        if _public(path) is not None:
            return sys.modules[_PACKAGE]
        raise InputError(
            f"{shown(path)}: there is no module {error.name!r}: correct the path, or install the package "
            "(or put its folder on PYTHONPATH)"
        ) from None


def _found_in(module: ModuleType, path: str) -> Any:
    """Returns what a path names in its module, or in this package for a path into it; None where nothing is there."""
    name = path.rpartition(".")[2]
    return getattr(module, name) if hasattr(module, name) else _public(path)


def _public(path: str) -> Any:
    """Returns this package's public class of the name that a path ends with, if the path leads into this package."""
    is_ours = path.startswith(f"{_PACKAGE}.")
    return getattr(sys.modules[_PACKAGE], path.rpartition(".")[2], None) if is_ours else None


def from_plain(value: Any) -> Any:
    """Returns what plain configuration stands for: a dataclass instance, or a callable that awaits its first argument.

    >>> from_plain({"class_path": "lit_lrsched.Constant", "init_args": {"factor": 0.5}})
    Constant(factor=0.5)

    Raises:
        InputError: When a path leads nowhere, or arguments are unknown, no dict, or stand beside ``class_path``.
    """
    if isinstance(value, Mapping) and "class_path" in value:
        path = value["class_path"]
        target: Any = import_from(path)
        if not callable(target):
            raise InputError(f"{shown(path)} is of type {type(target).__name__}: name a class or a function instead")
        if beside := [key for key in value if key not in ("class_path", *_ARGUMENTS)]:
            raise InputError(f"{beside[0]!r} stands beside class_path: put it into init_args")
        arguments: dict[str, Any] = {}
        for key in _ARGUMENTS:
            given = value.get(key) or {}
            if not isinstance(given, Mapping):
                raise InputError(f"{key}={shown(given)} of {path!r} are not arguments by name: write them as a dict")
            arguments.update({name: from_plain(item) for name, item in given.items()})
        if not dataclasses.is_dataclass(target):
            return partial(target, **arguments)
        known = [field.name for field in dataclasses.fields(target) if field.init]
        for name in arguments:
            if name not in known:
                raise InputError(f"{path!r} has no argument {name!r}{did_you_mean(str(name), known)}: correct it")
        try:
            return cast("Any", target)(**arguments)
        except TypeError as error:
            raise InputError(f"{path!r} refuses its arguments: {error}") from error
    if isinstance(value, Mapping):
        return {key: from_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [from_plain(item) for item in value]
    return value

"""What tells a value from others, as plain values: a model, its data, and the code of the user's that they run."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import re
from collections.abc import Mapping
from functools import cached_property, partial
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import nn

from lit_lrsched.class_paths import import_path, without_partial
from lit_lrsched.comparison.engine.user_code import (
    MEMBERS,
    from_outside,
    functions_of,
    is_of_library,
    members_of,
    names_in,
)
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import LightningDataModule, LightningModule, either

_PLAIN = (bool, int, float, str, type(None))


def digest_of(value: Any) -> str:
    """Returns sixteen characters that tell plain values from others."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def described(value: Any) -> Any:
    """Returns plain values that tell a value from others: the code of functions and classes of the user included.

    So do the values from outside that this code uses. Weights are left out of a LightningModule, whose seed draws them,
    and of a data module all but plain attributes, for its rows are told apart by themselves.

    >>> described({"rates": (0.1, 0.3), "of": None})
    {'rates': [0.1, 0.3], 'of': None}
    """
    return _Description().of(value)


class _Description:
    """Describes one value, with functions and classes once each: their number stands where they come again."""

    def __init__(self) -> None:
        self._told: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._above: set[int] = set()

    def of(self, value: Any) -> Any:
        if isinstance(value, _PLAIN):
            return value
        # A module's own method belongs to a part of a module, which is described without its weights.
        if inspect.ismethod(value) and not isinstance(value.__self__, nn.Module):
            return [self._once(value.__func__), self.of(value.__self__)]
        if isinstance(value, type) or inspect.isroutine(value):
            return self._once(getattr(value, "__func__", value))
        if id(value) in self._above:
            return "above"
        self._above.add(id(value))
        found = self._content(value)
        self._above.remove(id(value))
        return found

    def _content(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): self.of(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(item) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted(map(_shown, value))  # whose order differs from one process to the next
        if isinstance(value, torch.Tensor):
            return self.of(_array(value))
        if isinstance(value, np.ndarray):
            content = self.of(value.tolist()) if value.dtype.hasobject else hashlib.sha256(value.tobytes()).hexdigest()
            return [str(value.dtype), list(value.shape), content]
        if isinstance(value, partial):
            target = without_partial(value)
            is_last = value.args and value.args[-1] is target  # jsonargparse puts the class there
            return [self.of(target), self.of(() if is_last else value.args), self.of(value.keywords)]
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return [self.of(type(value)), self.of(fields)]
        found = [self.of(type(value)), _shown(value)]
        if isinstance(value, either(LightningModule, LightningDataModule)):
            found.append(self.of(dict(value.hparams)))
        elif isinstance(value, nn.Module):
            found.append(self.of(value.state_dict()))
        if isinstance(value, nn.Module):
            parts = [[self.of(type(part)), self._attributes(part)] for part in value.modules()]
            found.append(sorted({digest_of(part) for part in parts}))
        elif not is_of_library(type(value)):
            found.append(self._attributes(value))
        return found

    def _attributes(self, value: Any) -> Any:
        kinds: Any = _PLAIN if isinstance(value, either(LightningDataModule)) else object
        kind = type(value)
        slots = [name for _, name, one in members_of(kind) if inspect.ismemberdescriptor(one)]
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
        private = _settled_in(kind)
        held = {
            name: one
            for name, one in held.items()
            if name[0] != "_" or (name in private and not isinstance(one, (dict, set)))  # which may be filled later
        }
        return self.of({name: one for name, one in held.items() if isinstance(one, kinds) and not _is_place(one)})

    def _once(self, value: Any) -> Any:
        if id(value) in self._numbers:
            return f"number {self._numbers[id(value)]}"
        self._numbers[id(value)] = len(self._told)
        self._told.append(value)  # so that no other gets its id
        return [_path(value), *(self._code_of_class(value) if isinstance(value, type) else [self._code_of(value)])]

    def _code_of_class(self, kind: type) -> list[Any]:
        found = []
        for _, name, member in members_of(kind):
            if inspect.isfunction(member):
                found.append([name, self._code_of(member)])
            elif isinstance(member, _PLAIN) and not name.startswith("__"):
                found.append([name, member])
        return found

    def _code_of(self, function: Any) -> Any:
        """Describes what a function does: its code, its defaults, and the values from outside that it uses."""
        code = getattr(function, "__code__", None)
        if code is None or is_of_library(function):
            return None
        used = {name: held for name, held in from_outside(function).items() if not _is_place(held)}
        return [_instructions(code), self.of([function.__defaults__, function.__kwdefaults__, used])]


def _array(tensor: torch.Tensor) -> Any:
    try:
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy(force=True)
    except (RuntimeError, TypeError, ValueError):  # it has no values yet, or is of a kind that NumPy lacks
        return repr(tensor)


def _shown(value: Any) -> str:
    """Returns how a value is written, without where it lies in memory, which differs from one process to the next."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _settled_in(kind: type) -> set[str]:
    """Returns the members that the user's methods of a class read, but those that are set after ``__init__``.

    torch and Lightning keep theirs beside them; what a cached property keeps, or a method sets, comes of the rest.
    """
    made = {name: one.func for _, name, one in members_of(kind) if isinstance(one, cached_property)}
    functions: list[Any] = [*functions_of([kind]), *made.values()]
    later = [function for function in functions if function.__name__ not in ("__init__", "__post_init__")]
    read = {name for function in functions for name in names_in(function.__code__, *MEMBERS)}
    return read.difference(made, *(names_in(function.__code__, "STORE_ATTR") for function in later))


def _is_place(value: Any) -> bool:
    """Tells where a file lies, which is no part of a race."""
    return isinstance(value, (str, os.PathLike)) and os.path.isabs(value)


def _path(value: Any) -> str:
    try:
        return import_path(value)
    except InputError:
        return f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _instructions(code: CodeType) -> list[Any]:
    constants = [
        _instructions(part)
        if isinstance(part, CodeType)
        else described(part)
        if isinstance(part, frozenset)
        else repr(part)
        for part in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), constants]

"""What the methods of a module see outside of it: numbers, text and tensors in globals, closures and classes."""

from __future__ import annotations

import inspect
from typing import Any

from lit_lrsched.comparison.engine.held import contents
from lit_lrsched.comparison.engine.user_code import from_outside, functions_of, members_of
from lit_lrsched.trainer.lightning_package import LightningModule


class Outside:
    """What the methods of a module, and the functions that they use, see outside of it.

    Libraries are left out: what they keep changes for reasons of their own.

    Args:
        module: The module.
    """

    def __init__(self, module: LightningModule) -> None:
        self._parts = {type(part): part for part in module.modules()}
        self._functions = functions_of(self._parts)

    def now(self) -> dict[str, Any]:
        """Returns the numbers and text in all that is seen, and which tensors, by name."""
        seen: dict[str, dict[int, Any]] = {}  # by name, and by id: functions may see two values by one name
        for part in self._parts.values():
            for base, name, member in members_of(type(part)):  # as it is now: a step may set what was not there
                if not name.startswith("__") and not inspect.isdatadescriptor(member):
                    seen.setdefault(f"{base.__name__}.{name}", {})[id(member)] = member
        for function in self._functions:
            for name, value in from_outside(function).items():
                seen.setdefault(name, {})[id(value)] = value
            defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
            seen.setdefault(f"a default of {function.__name__}", {})[id(function)] = defaults
        found = {
            name: [contents(value, set()) for value in values.values() if not inspect.isroutine(value)]
            for name, values in seen.items()
        }
        return {name: within for name, within in found.items() if any(one is not None for one in within)}

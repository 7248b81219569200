"""What the methods of a module see outside of it: numbers, text and tensors in globals, closures and classes."""

from __future__ import annotations

import inspect
from typing import Any

from lightning.pytorch import LightningModule

from lit_lrsched.comparison.engine.held import contents
from lit_lrsched.comparison.engine.user_code import from_outside, functions_of, members_of


class Outside:
    """What the methods of a module, and the functions that they use, see outside of it.

    Libraries are left out: what they keep changes for reasons of their own.

    Args:
        module: The module.
    """

    def __init__(self, module: LightningModule) -> None:
        parts = {type(part): part for part in module.modules()}
        self._functions = functions_of(parts)
        self._of_classes = {
            f"{base.__name__}.{name}": (part, name)
            for kind, part in parts.items()
            for base, name, member in members_of(kind)
            if not (name.startswith("__") or inspect.isroutine(member) or inspect.isdatadescriptor(member))
        }

    def now(self) -> dict[str, Any]:
        """Returns the numbers and text in all that is seen, and which tensors, by name."""
        values = {place: getattr(type(part), name, None) for place, (part, name) in self._of_classes.items()}
        for function in self._functions:
            values |= from_outside(function)
        found = {name: contents(value, set()) for name, value in values.items() if not inspect.isroutine(value)}
        return {name: within for name, within in found.items() if within is not None}

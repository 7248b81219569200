"""Short names of schedules that other packages offer by an entry point."""

from __future__ import annotations

import re
import typing
from argparse import Action
from typing import Any

from lit_lrsched import schedules
from lit_lrsched.cli.jsonargparse_internals import ValueHook, type_of
from lit_lrsched.schedules import entry_points
from lit_lrsched.schedules.core import Schedule

_WORD = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?![\w.])")  # no part of an import path


class OfferedNames(ValueHook):
    """Imports the schedules of other packages that a value names, so that their short names are known."""

    def before_parsing(self, action: Action, value: Any) -> Any:
        """Leaves the value as it is."""
        if _takes_schedule(type_of(action)):
            for name in sorted(entry_points.installed().keys() & set(_WORD.findall(str(value)))):
                entry_points.load(name, taken=_taken(name))
        return super().before_parsing(action, value)


def _takes_schedule(kind: Any) -> bool:
    return kind is Schedule or any(_takes_schedule(one) for one in typing.get_args(kind))


def _taken(name: str) -> str | None:
    """Returns the path of our own schedule or torch's scheduler of a name, if there is one."""
    from torch.optim import lr_scheduler

    if name in (*schedules.__all__, "FromTorch"):
        return f"lit_lrsched.{name}"
    return f"{lr_scheduler.__name__}.{name}" if hasattr(lr_scheduler, name) else None

"""Short names of torch schedulers that Lightning's own variant would make ambiguous."""

from __future__ import annotations

import re
import typing
from argparse import Action
from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from lit_lrsched.class_paths import import_path
from lit_lrsched.cli.jsonargparse_internals import ValueHook, type_of

# LightningCLI brings a class of this name that carries `monitor`; here --lr_monitor does that. Not the key of a dict.
_SHORT = re.compile(rf"(?<![\w.]){ReduceLROnPlateau.__name__}(?![\w.]|\s*:)")


class TorchShortNames(ValueHook):
    """Takes ``ReduceLROnPlateau`` for torch's, wherever a torch scheduler is asked for."""

    def before_parsing(self, action: Action, value: Any) -> Any:
        """Writes the short name out."""
        value = super().before_parsing(action, value)
        return written_out(value) if _takes_scheduler(type_of(action)) else value


def written_out(value: Any) -> Any:
    """Returns a value, or text that holds values, with torch's path in place of the short name.

    >>> written_out({"class_path": "ReduceLROnPlateau", "init_args": {"mode": "max"}})["class_path"]
    'torch.optim.lr_scheduler.ReduceLROnPlateau'
    >>> written_out("{ReduceLROnPlateau: StepLR}")
    '{ReduceLROnPlateau: StepLR}'
    """
    if isinstance(value, str):
        return _SHORT.sub(import_path(ReduceLROnPlateau), value)
    if isinstance(value, list):
        return [written_out(one) for one in value]
    if isinstance(value, Mapping):
        return {key: written_out(one) for key, one in value.items()}
    if isinstance(value, Namespace):
        return Namespace(written_out(vars(value)))  # type: ignore[no-untyped-call]
    return value


def _takes_scheduler(kind: Any) -> bool:
    return kind is LRScheduler or any(_takes_scheduler(one) for one in typing.get_args(kind))

"""Lists typed with commas: ``--lrs 0.1,0.3`` for ``--lrs [0.1,0.3]``."""

from __future__ import annotations

import re
import types
import typing
from argparse import Action, ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Union

_PLAIN = re.compile(r"[\w.%+-]+(,[\w.%+-]+)*")


class CommaLists(ArgumentParser):
    """Makes a jsonargparse parser take plain words with commas between them for a list, where only a list fits."""

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:  # of options typed as they are
        return super()._get_values(action, [bracketed(action, one) for one in arg_strings])  # type: ignore[misc]

    def _check_value_key(self, action: Action, value: Any, *args: Any, **kwargs: Any) -> Any:  # of a class's arguments
        return super()._check_value_key(action, bracketed(action, value), *args, **kwargs)  # type: ignore[misc]


def bracketed(action: Action, value: Any) -> Any:
    """Returns a value with the brackets of a list where only a list fits and plain words are given."""
    wants_list = _takes_list(getattr(action, "_typehint", None))
    if not (wants_list and isinstance(value, str) and _PLAIN.fullmatch(value)):
        return value
    return value if value.lower() in ("null", "none") or Path(value).is_file() else f"[{value}]"


def _takes_list(kind: Any) -> bool:
    """Tells a type that some list fits, and no text.

    >>> _takes_list(Union[list[float], None]), _takes_list(Union[str, list[str]]), _takes_list(str)
    (True, False, False)
    """
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        kinds = typing.get_args(kind)
        return str not in kinds and Any not in kinds and any(map(_takes_list, kinds))
    sequence = origin or kind
    return (
        isinstance(sequence, type)
        and issubclass(sequence, Sequence)
        and not issubclass(sequence, (str, bytes, Mapping))
    )

"""Lists typed with commas: ``--lrs 0.1,0.3`` for ``--lrs [0.1,0.3]``."""

from __future__ import annotations

import re
import types
import typing
from argparse import Action, ArgumentParser
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Union

_PLAIN = re.compile(r"[\w.%+-]+(,[\w.%+-]+)*")


class CommaLists(ArgumentParser):
    """Makes a jsonargparse parser take plain words with commas between them for a list, where only a list fits."""

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:  # of options typed as they are
        return super()._get_values(action, [bracketed(action, one) for one in arg_strings])

    def _check_value_key(self, action: Action, value: Any, *args: Any, **kwargs: Any) -> Any:  # of a class's arguments
        return super()._check_value_key(action, bracketed(action, value), *args, **kwargs)  # type: ignore[misc]


def bracketed(action: Action, value: Any) -> Any:
    """Returns a value with the brackets of a list where only a list fits and plain words are given."""
    wants_list = isinstance(value, str) and _takes_list(getattr(action, "_typehint", None), single="," not in value)
    if not (wants_list and _PLAIN.fullmatch(value)):
        return value
    return value if value.lower() in ("null", "none") or Path(value).is_file() else f"[{value}]"


def _takes_list(kind: Any, single: bool) -> bool:
    """Tells a type that a list fits: of several words where no text does, of a single word where nothing else does.

    >>> _takes_list(Union[list[float], None], single=True), _takes_list(Union[str, list[str]], single=False)
    (True, False)
    >>> _takes_list(Union[int, list[int]], single=True), _takes_list(Union[int, list[int]], single=False)
    (False, True)
    """
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        others = [one for one in kinds if not _takes_list(one, single)]
        if single:
            others = [one for one in others if typing.get_origin(one) is not dict]
            return bool(kinds) and not others
        return len(others) < len(kinds) and not {str, Any} & set(others)
    kind = origin or kind
    if kind in (Iterable, Collection):
        return True
    return isinstance(kind, type) and issubclass(kind, Sequence) and not issubclass(kind, (str, bytes, Mapping))

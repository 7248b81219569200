"""Lists typed with commas: ``--lrs 0.1,0.3`` for ``--lrs [0.1,0.3]``."""

from __future__ import annotations

import os
import re
import types
import typing
from argparse import Action
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Union

from lit_lrsched.cli.jsonargparse_internals import ValueHook, type_of

_PLAIN = re.compile(r"[\w.%+-]+(,[\w.%+-]+)*")


class CommaLists(ValueHook):
    """Makes a jsonargparse parser take plain words with commas between them for a list, where only a list fits."""

    def before_parsing(self, action: Action, value: Any) -> Any:
        """Puts the brackets of a list around them."""
        return bracketed(action, super().before_parsing(action, value))


def bracketed(action: Action, value: Any) -> Any:
    """Returns a value with the brackets of a list where only a list fits and plain words are given."""
    wants_list = isinstance(value, str) and _takes_list(type_of(action), single="," not in value)
    if not (wants_list and _PLAIN.fullmatch(value)):
        return value
    # Not `Path.is_file`, which refuses what is too long for a name: a list may be.
    return value if value.lower() in ("null", "none") or os.path.isfile(value) else f"[{value}]"


def _takes_list(kind: Any, single: bool) -> bool:
    """Tells a type that a list fits: of several words where no text does, of a single word where nothing else does.

    >>> _takes_list(Union[list[float], None], single=True), _takes_list(Union[str, list[str]], single=False)
    (True, False)
    >>> _takes_list(Union[int, list[int]], single=True), _takes_list(Union[int, list[int]], single=False)
    (False, True)
    >>> _takes_list(Union[dict[str, int], list[str]], True), _takes_list(Union[dict[str, int], None], True)
    (True, False)
    """
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        kinds = [one for one in typing.get_args(kind) if one is not type(None)]
        others = [one for one in kinds if not _takes_list(one, single)]
        if single:
            others = [one for one in others if typing.get_origin(one) is not dict]
            return not others and any(_takes_list(one, single) for one in kinds)
        return len(others) < len(kinds) and not {str, Any} & set(others)
    kind = origin or kind
    if kind in (Iterable, Collection):
        return True
    return isinstance(kind, type) and issubclass(kind, Sequence) and not issubclass(kind, (str, bytes, Mapping))

"""Plain data: what JSON can say of numbers, text, lists and dicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def plain(value: Any) -> Any:
    """Returns a value as ``json.loads`` would read it back: lists for tuples, None for what is no finite number.

    Args:
        value: Numbers, text, paths, None, and lists, tuples and dicts of these.

    >>> plain({"best": (0.1, float("inf")), "at": None})
    {'best': [0.1, None], 'at': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, PurePath):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value

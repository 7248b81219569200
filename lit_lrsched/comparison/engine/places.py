"""Places where a module keeps what can be set anew: its attributes, and what dicts, lists and objects in them hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn

from lit_lrsched.comparison.engine.held import MANY, inside_of, items_of, own_attributes

#: The name of an attribute, and the keys and names that lead on from there.
Place = tuple[Any, ...]


def places(module: nn.Module) -> Iterator[tuple[Place, Any]]:
    """Yields every place, however deep, and what is there."""
    yield from _within(own_attributes(module), (), set())


def holder_of(module: nn.Module, place: Place) -> Any:
    """Returns the dict or list in which the last key of a place leads to what is there."""
    held: Any = vars(module)
    for key in place[:-1]:
        held = held[key]
        held = held if isinstance(held, (MutableMapping, list)) else vars(held)
    return held


def name_of(place: Place) -> str:
    """Returns a place in words, as one would write it in Python if all of it were dicts and lists."""
    return "".join(map(str, (place[0], *(f"[{key!r}]" for key in place[1:]))))


def _within(holder: Any, place: Place, seen: set[int]) -> Iterator[tuple[Place, Any]]:
    if id(holder) in seen or isinstance(holder, (int, float, str, bytes, Tensor, nn.Module, type)):
        return
    seen.add(id(holder))
    held = _parts_of(holder)
    if len(held) <= MANY:
        for key, value in items_of(held):
            yield (*place, key), value
            yield from _within(value, (*place, key), seen)


def _parts_of(holder: Any) -> Mapping[Any, Any]:
    if type(holder) is list:  # no other: one that steps append to may not be read
        return dict(enumerate(holder))
    if isinstance(holder, MutableMapping):
        return holder
    attributes = getattr(holder, "__dict__", {})  # not slots, which are told where they change
    return {name: value for name, value in inside_of(holder).items() if name in attributes}

"""Lists that steps append to: each step returns what it appends, and the hooks that read them get all of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, MutableMapping
from typing import Any

from torch import Tensor

from lit_lrsched.comparison.engine.counts import Symbol
from lit_lrsched.comparison.engine.items import VALUES, Item, of_number
from lit_lrsched.comparison.engine.places import Place, holder_of, name_of, places
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.stand_ins import StandIn
from lit_lrsched.optim.torch_internals import register_pytree_node, tree_leaves, tree_map
from lit_lrsched.trainer.lightning_package import LightningModule

#: Why a step cannot be traced that looks into such a list.
READS = "a step reads a list of what earlier steps appended"


class Lists:
    """Lists of a module: attributes, or within what these hold.

    Which they are is found out from steps that are watched.

    Args:
        module: The module.
    """

    def __init__(self, module: LightningModule) -> None:
        self._module = module
        self._places: list[Place] = []

    def lengths(self) -> dict[Place, int]:
        """Returns the length of every list that the module has, by its place."""
        return {place: len(value) for place, value in places(self._module) if type(value) is list}

    def watch(self, before: Mapping[Place, int]) -> None:
        """Notes which have become longer in a step, given their lengths before it."""
        longer = [place for place, length in self.lengths().items() if length > before.get(place, 0)]
        known = {*self._places, *longer}
        for place in longer:
            # A list within another of these is what was appended to it.
            if place not in self._places and known.isdisjoint(place[:end] for end in range(1, len(place))):
                if id(self._get(place)) in self.ids():
                    raise NotVectorizable(f"a step appends to self.{name_of(place)}, which has another name too")
                self._places.append(place)

    def ids(self) -> set[int]:
        """Returns the ids of them, as they are now."""
        return {id(self._get(place)) for place in self._places}

    def filled(self) -> set[str]:
        """Returns the keys of all lists that hold anything now, also where no step has appended to them so far."""
        return {_key(place) for place, length in self.lengths().items() if length}

    def keys(self) -> set[str]:
        """Returns the keys of those that steps append to."""
        return {*map(_key, self._places)}

    def are_all_of(self, name: str, idle: Collection[str]) -> bool:
        """Returns whether an attribute holds nothing but such lists, and these are empty or have one of some keys."""
        of_attribute = [place for place in self._places if place[0] == name]
        ids = {id(self._get(place)) for place in of_attribute if _key(place) in idle}
        return len(of_attribute) > 0 and _is_empty(getattr(self._module, name), ids)

    def begin_step(self) -> None:
        """Makes them ready for a step, which may append to them and not read them."""
        for place in self._places:
            self._set(place, Appended())

    def load(self, kept: Mapping[str, list[Any]], unread: Collection[str]) -> None:
        """Fills them with all that was kept; those with the keys ``unread`` must not be read."""
        for place in self._places:
            key = _key(place)
            found = kept.get(key, [])
            self._set(place, Appended() if key in unread else [one for one in found if not isinstance(one, Emptied)])

    def saved(self) -> dict[str, list[Any]]:
        """Returns what a step has appended, by key."""
        return {_key(place): self._appended_to(place) for place in self._places}

    def _appended_to(self, place: Place) -> list[Any]:
        appended = self._get(place)
        is_anew = type(appended) is list
        if not (is_anew or isinstance(appended, Appended)):
            raise NotVectorizable(f"a step makes self.{name_of(place)} a {type(appended).__name__}, which was a list")
        taken: list[Any] = tree_map(_as_item, appended if is_anew else appended.taken)
        if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(taken)):
            raise NotVectorizable(f"a step appends more than tensors and numbers to self.{name_of(place)}")
        return [Emptied(), *taken] if is_anew or appended.is_cleared else taken

    def _set(self, place: Place, found: list[Any] | Appended) -> None:
        holder = holder_of(self._module, place)
        if isinstance(holder, list) and place[-1] >= len(holder):
            raise NotVectorizable(f"a hook takes self.{name_of(place)} away")
        holder[place[-1]] = found

    def _get(self, place: Place) -> Any:
        """Returns a list; None where it is not there."""
        holder = holder_of(self._module, place)
        there = place[-1] < len(holder) if isinstance(holder, list) else place[-1] in holder
        return holder[place[-1]] if there else None


def _is_empty(held: Any, idle: Collection[int]) -> bool:
    """Returns whether there is nothing in lists and dicts but such that are empty, or have these ids."""
    if id(held) in idle:
        return True
    parts = held.values() if isinstance(held, MutableMapping) else held
    return isinstance(held, (list, MutableMapping)) and all(_is_empty(part, idle) for part in parts)


def _key(place: Place) -> str:
    return f"self/{name_of(place)}"


def _as_item(leaf: Any) -> Any:
    """Returns a number that is no tensor as one of each run's own, which a hook reads as that number."""
    if isinstance(leaf, Symbol):
        return Item(leaf.exact(), VALUES)
    is_number = isinstance(leaf, (int, float)) and not isinstance(leaf, bool)
    return of_number(leaf) if is_number else leaf


class Emptied:
    """Says, before what a step appends to a list, that it has emptied it of what earlier steps appended."""


register_pytree_node(Emptied, lambda _: ([], None), lambda *_: Emptied())


def extend(kept: dict[str, list[Any]], more: Mapping[str, list[Any]]) -> None:
    """Adds what a step has appended to lists to what was kept of earlier ones."""
    for name, items in more.items():
        if items and isinstance(items[0], Emptied):
            kept[name] = [*items]
        elif items:
            kept.setdefault(name, []).extend(items)


class Appended(StandIn):
    """Stands for a list that steps append to: what earlier steps appended is not in it, so it must not be read.

    No list, since functions such as ``torch.stack`` would read one unseen.

    Attributes:
        taken: What was appended.
        is_cleared: Whether everything was taken out.
    """

    def __init__(self) -> None:
        super().__init__(READS)
        self.taken: list[Any] = []
        self.is_cleared = False

    def append(self, one: Any) -> None:
        """Appends one more, as a list does."""
        self.taken.append(one)

    def extend(self, more: Iterable[Any]) -> None:
        """Appends several, as a list does."""
        self.taken.extend(more)

    def clear(self) -> None:
        """Takes everything out, as of a list."""
        self.taken.clear()
        self.is_cleared = True

    def __iadd__(self, more: Iterable[Any]) -> Appended:  # type: ignore[misc]  # a sum is refused
        self.extend(more)
        return self

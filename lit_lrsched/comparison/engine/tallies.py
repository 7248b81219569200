"""Numbers that a module counts with, in attributes or in what these hold: each run has its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lit_lrsched.comparison.engine.counts import Count, Symbol
from lit_lrsched.comparison.engine.items import Item, item
from lit_lrsched.comparison.engine.places import Place, holder_of, places
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.trainer.lightning_package import LightningModule

_Numbers = dict[Place, Any]


class Tallies:
    """Numbers of a module that its hooks and steps change: sums over an epoch, counts of batches, averages.

    They go into every call and come out of it, as the states of metrics do. Which they are is found out from calls that
    are watched.

    Args:
        module: The module, freshly built.
    """

    def __init__(self, module: LightningModule) -> None:
        self._module = module
        self._start = self.numbers()
        self._floats: dict[Place, bool] = {}  # of each that changes, whether it is ever no whole number
        self._loaded: dict[Place, Tensor] = {}

    def numbers(self) -> _Numbers:
        """Returns all numbers that the module holds, by their place."""
        return {
            place: value
            for place, value in places(self._module)
            if isinstance(value, (int, float)) and not isinstance(value, (bool, Count))
        }

    def watch(self, before: _Numbers) -> None:
        """Notes which numbers a call has changed, given those before it."""
        for place, value in self.numbers().items():
            is_item = isinstance(value, Item)  # which is kept even where it is as the number was
            if is_item:
                value = value.known()
                self._set(place, value)
            if place not in self._start or place not in before:
                continue
            # As text, nan is as it was, and 0.0 is not 0.
            if is_item or repr(value) != repr(before[place]):
                is_float = any(isinstance(one, float) for one in (self._start[place], before[place], value))
                self._floats[place] = self._floats.get(place, False) or is_float

    @contextmanager
    def set_back(self, before: _Numbers) -> Iterator[None]:
        """Sets them for a while to what they were before a call."""
        now = {place: self._get(place) for place in self._floats}
        for place in now:
            self._set(place, before[place])
        yield
        for place, value in now.items():
            self._set(place, value)

    def begin_anew(self) -> None:
        """Sets them to what they were before any call."""
        for place in self._floats:
            self._set(place, self._start[place])

    def start(self) -> dict[str, Tensor]:
        """Returns them before training."""
        return {
            _key(place): torch.tensor(self._start[place], dtype=torch.float64 if is_float else torch.int64)
            for place, is_float in self._floats.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Sets them for a call: to numbers where it is of one run, else to what stands for those of all."""
        self._loaded = {place: state[_key(place)] for place in self._floats}
        for place, tensor in self._loaded.items():
            self._set(place, item(tensor, f"self.{place[0]}, which it changes"))

    def saved(self) -> dict[str, Tensor]:
        """Returns them after a call."""
        return {_key(place): self._tensor(place) for place in self._floats}

    def _tensor(self, place: Place) -> Tensor:
        value, like = self._get(place), self._loaded[place]
        tensor = value.exact() if isinstance(value, Symbol) else value
        is_whole = isinstance(tensor, int) or (isinstance(tensor, Tensor) and not tensor.is_floating_point())
        if isinstance(value, Tensor) or not isinstance(tensor, (int, float, Tensor)):
            raise NotVectorizable(f"a step makes self.{place[0]} a {type(value).__name__}, which was a number before")
        if not is_whole and not like.is_floating_point():
            raise NotVectorizable(f"a step makes self.{place[0]} a fraction, which was a whole number before")
        return torch.zeros_like(like) + tensor  # each run's own

    def _get(self, place: Place) -> Any:
        return holder_of(self._module, place)[place[-1]]

    def _set(self, place: Place, value: Any) -> None:
        holder_of(self._module, place)[place[-1]] = value


def _key(place: Place) -> str:
    return "tally/" + "/".join(map(str, place))

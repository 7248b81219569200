"""Lists that steps append to: each step returns what it appends, and the hooks that read them get all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex

from lightning.pytorch import LightningModule
from torch import Tensor

from lit_lrsched.comparison.engine.held import own_attributes
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.torch_internals import tree_leaves


class Lists:
    """Lists among the attributes of a module. Which they are is found out from steps that are watched.

    Args:
        module: The module.

    Attributes:
        names: Their names.
    """

    def __init__(self, module: LightningModule) -> None:
        self._module = module
        self.names: set[str] = set()

    def lengths(self) -> dict[str, int]:
        """Returns the length of every list that the module has."""
        return {name: len(value) for name, value in own_attributes(self._module).items() if type(value) is list}

    def watch(self, before: Mapping[str, int]) -> None:
        """Notes which have become longer in a step, given their lengths before it."""
        self.names |= {name for name, length in self.lengths().items() if length > before.get(name, 0)}

    def empty(self) -> set[str]:
        """Returns those that are empty now, by key."""
        return {_key(name) for name in self.names if getattr(self._module, name) == []}

    def begin_step(self) -> None:
        """Makes them ready for a step, which may append to them and not read them."""
        for name in self.names:
            setattr(self._module, name, _Appended())

    def load(self, kept: Mapping[str, list[Any]]) -> None:
        """Fills them with all that was kept."""
        for name in self.names:
            setattr(self._module, name, list(kept.get(_key(name), [])))

    def saved(self) -> dict[str, list[Any]]:
        """Returns what a step has appended, by key."""
        return {_key(name): self._appended_to(name) for name in self.names}

    def _appended_to(self, name: str) -> list[Any]:
        appended = getattr(self._module, name)
        if not isinstance(appended, _Appended):
            raise NotVectorizable(f"a step sets self.{name} anew")
        taken = appended.taken()
        if not all(isinstance(leaf, Tensor) for leaf in tree_leaves(taken)):
            raise NotVectorizable(f"a step appends more than tensors to self.{name}")
        return taken


def _key(name: str) -> str:
    return f"self/{name}"


class _Appended(list[Any]):
    """Stands for a list that a step appends to: what earlier steps appended is not in it, so it must not be read."""

    def __len__(self) -> int:
        raise NotVectorizable("a step reads a list of what earlier steps appended")

    def __iter__(self) -> Iterator[Any]:
        raise NotVectorizable("a step reads a list of what earlier steps appended")

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        raise NotVectorizable("a step reads a list of what earlier steps appended")

    def taken(self) -> list[Any]:
        """Returns what was appended."""
        return list(super().__iter__())

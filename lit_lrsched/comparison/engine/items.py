"""Numbers that a step takes out of tensors by ``item()``, or counts: in a program for many runs each has its own."""

from __future__ import annotations

import operator
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lit_lrsched.comparison.engine.counts import OF_EACH_RUN, Symbol
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.torch_internals import register_pytree_node, tree_map

VALUES = "the values of its tensors"
"""What an item comes from that ``item()`` took out of a tensor."""


class Item(Symbol):
    """A number that differs from run to run, such as ``item()`` returns of a tensor.

    Sums and products are computed for all runs, in double precision, as Python computes them. What is compared or
    converted has to be known, and is not; as text, which people print, it says that each run has its own.

    Args:
        tensor: The number, ``[]``: an int64 or a double.
        source: What it comes from, in words.
    """

    def __init__(self, tensor: Tensor, source: str) -> None:
        self._tensor = tensor
        self._source = source

    def known(self) -> Any:
        """Returns the number of a single run.

        Raises:
            NotVectorizable: When the tensor stands for many runs.
        """
        number = item(self._tensor, self._source)
        if isinstance(number, Item):
            raise NotVectorizable(f"a step branches on {self._source}")
        return number

    def tensor(self) -> Tensor:
        """Returns the number as torch takes one into a sum with a tensor."""
        return self._tensor.to(torch.get_default_dtype()) if self._tensor.is_floating_point() else self._tensor

    def exact(self) -> Tensor:
        """Returns the number as it is, an int64 or a double."""
        return self._tensor

    def flattened(self) -> tuple[list[Tensor], str]:
        """Returns its tensor, as the leaf of a tree, and what it comes from."""
        return [self._tensor], self._source

    @property  # type: ignore[misc]  # that of object can be set
    def __class__(self) -> Any:  # for isinstance, as a step may ask
        return float if self._tensor.is_floating_point() else int

    def __repr__(self) -> str:
        return self.__format__("")

    def __format__(self, spec: str) -> str:
        number = item(self._tensor, self._source)
        return OF_EACH_RUN if isinstance(number, Item) else format(number, spec)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = _without_items(Item.tensor, (args, kwargs or {}))
        return func(*args, **kwargs)

    def __round__(self, digits: int | None = None) -> Any:
        if digits is None or not self._tensor.is_floating_point():
            return super().__round__(digits)
        return Item(self._tensor.round(decimals=digits), self._source)

    def __neg__(self) -> Item:
        return Item(-self._tensor, self._source)

    def __abs__(self) -> Item:
        return Item(self._tensor.abs(), self._source)


class Marked(TorchFunctionMode):
    """Makes every ``item()`` an :class:`Item`: so it is seen where one is kept, also where it changes no number."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.tensor, torch.as_tensor):
            made = as_tensor(*args, **(kwargs or {}))
            if made is not NotImplemented:
                return made
        number = func(*args, **(kwargs or {}))
        if func not in (Tensor.item, Tensor.tolist) or isinstance(number, (list, bool, complex)):
            return number
        return of_number(number)


def known(tree: Any) -> Any:
    """Returns a tree of a single run with the numbers themselves."""
    return _without_items(Item.known, tree)


def item(tensor: Tensor, source: str = VALUES) -> Any:
    """Returns what ``tensor.item()`` does, or an :class:`Item` where each run has a number of its own."""
    if tensor.numel() != 1 or tensor.dtype is torch.bool or tensor.is_complex():
        return NotImplemented
    try:
        number: Any = tensor.item()
    except RuntimeError:  # of torch.func
        kind = torch.float64 if tensor.is_floating_point() else torch.int64
        return Item(tensor.detach().reshape(()).to(kind, copy=True), source)  # it stays, whatever becomes of the tensor
    return Item(number.exact(), source) if isinstance(number, Item) else number  # this function has been called already


def of_number(number: float) -> Item:
    """Returns a number as an item, as exact as it is."""
    return Item(torch.tensor(number, dtype=torch.float64 if isinstance(number, float) else torch.int64), VALUES)


def listed(tensor: Tensor) -> Any:
    """Returns what ``tensor.tolist()`` does, which of a single number is that of ``item()``."""
    return NotImplemented if tensor.dim() else item(tensor)


def as_tensor(data: Any, *, dtype: torch.dtype | None = None, device: Any = None, **others: Any) -> Any:
    """Returns what ``torch.as_tensor`` does of an item or a count, or of a list of items or tensors of one number."""
    if isinstance(data, Symbol):
        return NotImplemented if others else data.tensor().to(device, dtype, copy=True)
    if others or not isinstance(data, (list, tuple)) or not data:
        return NotImplemented
    items = [item(one) if isinstance(one, Tensor) else one for one in data]
    if not all(isinstance(one, Item) for one in items):
        return NotImplemented
    return torch.stack([one.tensor() for one in items]).to(device, dtype)


def _without_items(change: Callable[[Item], Any], tree: Any) -> Any:
    def is_item(part: Any) -> bool:
        return isinstance(part, Item)

    return tree_map(lambda leaf: change(leaf) if is_item(leaf) else leaf, tree, is_leaf=is_item)


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Item, Any], bool]:
    def method(self: Item, other: Any) -> bool:
        return compare(self.known(), other.known() if isinstance(other, Symbol) else other)

    return method


def _operation(operate: Callable[[Any, Any], Any], reflected: bool = False) -> Callable[[Item, Any], Any]:
    def method(self: Item, other: Any) -> Any:
        if isinstance(other, Tensor):
            return operate(other, self.tensor()) if reflected else operate(self.tensor(), other)
        number = other.exact() if isinstance(other, Symbol) else other
        if not isinstance(number, (Real, Tensor)):
            return NotImplemented
        own = self._tensor
        if operate is operator.truediv or (isinstance(number, Real) and not isinstance(number, Integral)):
            own = own.double()
        elif operate is operator.pow and not own.is_floating_point():
            self.known()  # of whole numbers the power may be one or not
        return Item(operate(number, own) if reflected else operate(own, number), self._source)

    return method


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Item, f"__{_name}__", _comparison(getattr(operator, _name)))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Item, f"__{_name}__", _operation(getattr(operator, _name)))
    setattr(Item, f"__r{_name}__", _operation(getattr(operator, _name), reflected=True))
# What a step keeps of it in a list is a tensor for all runs, as all that it keeps.
register_pytree_node(Item, Item.flattened, lambda leaves, source: Item(next(iter(leaves)), source))

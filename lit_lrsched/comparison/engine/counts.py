"""What a step may ask of ``batch_idx`` and ``current_epoch``, and for which other values it would do the same."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_lrsched.optim.torch_internals import tree_map

#: Returns a number, given epoch and batch index, as numbers or as tensors.
Formula = Callable[[Any, Any], Any]

OF_EACH_RUN = "(each run's own)"
"""A number that differs from run to run, as text."""

# The operations in which a tensor may stand for a number.
_ARITHMETIC = frozenset(["add", "sub", "rsub", "mul", "div", "true_divide", "truediv", "pow"])


class Counts:
    """Where a step stands: in which epoch, at which batch. Keeps every answer that decides what the step does.

    Args:
        epoch: 0-based epoch.
        index: 0-based batch of the epoch.

    Attributes:
        clock: The same two numbers, int64 ``[2]``; what is computed with these serves other values too.
    """

    def __init__(self, epoch: int, index: int) -> None:
        self.now = (epoch, index)
        self.clock = torch.tensor(self.now)
        self._answers: list[tuple[Formula, Any]] = []

    def answer(self, question: Formula) -> Any:
        """Returns the answer for the present values, and remembers that it was given."""
        answer = question(*self.now)
        self._answers.append((question, answer))
        return answer

    def serve(self, epoch: int, index: int) -> bool:
        """Returns whether a step would do the same at another place: whether every answer would be the same there."""
        return all(question(epoch, index) == answer for question, answer in self._answers)


class Symbol(ABC):
    """Stands for a number while a step is traced; it becomes known where its value decides anything."""

    @abstractmethod
    def known(self) -> Any:
        """Returns the number itself."""

    @abstractmethod
    def tensor(self) -> Tensor:
        """Returns the number as torch takes one into a sum with a tensor; it may stand for many."""

    def exact(self) -> Tensor:
        """Returns the same as precisely as it is known."""
        return self.tensor()

    def __repr__(self) -> str:
        return repr(self.known())

    def __format__(self, spec: str) -> str:
        return format(self.known(), spec)

    def __hash__(self) -> int:
        return hash(self.known())

    def __bool__(self) -> bool:
        return bool(self.known())

    def __int__(self) -> int:
        return int(self.known())

    def __float__(self) -> float:
        return float(self.known())

    def __index__(self) -> int:
        return operator.index(self.known())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.known(), digits)


class Count(Symbol):
    """A number that a step is given in place of ``batch_idx`` or ``current_epoch``.

    What is compared or converted becomes a plain value, and the answer is remembered; a product or sum with a tensor
    is computed from the clock.

    Args:
        counts: Where the step stands.
        formula: The number.
    """

    # Above that of NumPy's numbers, below that of its arrays: what is computed with the former stays a formula.
    __array_priority__ = -1.0

    def __init__(self, counts: Counts, formula: Formula) -> None:
        self._counts = counts
        self._formula = formula

    def known(self) -> Any:
        """Returns the number itself: what is done with it holds for this one value."""
        return self._counts.answer(self._formula)

    def tensor(self) -> Tensor:
        """Returns the number as a tensor, right for every value that gives the same answers."""
        if self._counts.answer(lambda *at: isinstance(self._formula(*at), int)):  # 2**n is whole as long as n is
            return torch.as_tensor(self._formula(*self._counts.clock.unbind()))
        # In double precision, as Python computes it.
        number = self._formula(*self._counts.clock.double().unbind())
        return torch.as_tensor(number).to(torch.get_default_dtype())

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arithmetic = getattr(func, "__name__", "").strip("_") in _ARITHMETIC
        plain = Count.tensor if arithmetic else Count.known
        args, kwargs = tree_map(lambda leaf: plain(leaf) if isinstance(leaf, Count) else leaf, (args, kwargs or {}))
        return func(*args, **kwargs)

    @property  # type: ignore[misc]  # that of object can be set
    def __class__(self) -> Any:  # for isinstance, as a step may ask
        return self._counts.answer(lambda *at: type(self._formula(*at)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.known(), dtype)

    def __bool__(self) -> bool:
        return bool(self._counts.answer(lambda *at: bool(self._formula(*at))))

    def __int__(self) -> int:
        return int(self._counts.answer(lambda *at: int(self._formula(*at))))

    def __round__(self, digits: int | None = None) -> Any:
        return self._counts.answer(lambda *at: round(self._formula(*at), digits))

    def __neg__(self) -> Count:
        return Count(self._counts, lambda *at: -self._formula(*at))


def _comparison(compare: Callable[[Any, Any], bool]) -> Callable[[Count, Any], Any]:
    def method(self: Count, other: Any) -> Any:
        other = _formula_of(other)
        return (
            NotImplemented
            if other is None
            else self._counts.answer(lambda *at: compare(self._formula(*at), other(*at)))
        )

    return method


def _operation(operate: Callable[[Any, Any], Any], reflected: bool = False) -> Callable[[Count, Any], Any]:
    def method(self: Count, other: Any) -> Any:
        if isinstance(other, Tensor):
            return operate(other, self.tensor()) if reflected else operate(self.tensor(), other)
        other = _formula_of(other)
        if other is None:
            return NotImplemented
        first, second = (other, self._formula) if reflected else (self._formula, other)
        return Count(self._counts, lambda *at: operate(first(*at), second(*at)))

    return method


def _formula_of(other: Any) -> Formula | None:
    if isinstance(other, Count):
        return other._formula
    return (lambda *_: other) if isinstance(other, Real) else None


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Count, f"__{_name}__", _comparison(getattr(operator, _name)))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Count, f"__{_name}__", _operation(getattr(operator, _name)))
    setattr(Count, f"__r{_name}__", _operation(getattr(operator, _name), reflected=True))

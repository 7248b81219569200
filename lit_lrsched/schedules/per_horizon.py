"""What a schedule works out once for a horizon and then remembers."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from lit_lrsched.schedules.core import Horizon

_Self = TypeVar("_Self")
_Built = TypeVar("_Built")


def per_horizon(build: Callable[[_Self, Horizon], _Built]) -> Callable[[_Self, Horizon], _Built]:
    """Decorates a pure method ``(self, horizon)`` of a frozen dataclass so that it is worked out once a horizon.

    A run asks a schedule for a factor at every step of one horizon, and reading durations costs more than the formula.
    The result lies beside the fields, so it takes no part in equality, hashing or the written configuration.
    """
    slot = f"_{build.__name__}_per_horizon"

    @wraps(build)
    def remembered(self: _Self, horizon: Horizon) -> _Built:
        memory: dict[tuple[int, int | None], _Built] = self.__dict__.setdefault(slot, {})
        key = (horizon.steps, horizon.steps_per_epoch)
        if key not in memory:
            memory[key] = build(self, horizon)
        return memory[key]

    return remembered

"""A function, given by its import path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from lit_lrsched.class_paths import import_from
from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.compose import as_part
from lit_lrsched.schedules.core import Horizon, Schedule, factor_at


@dataclass(frozen=True)
class Custom(Schedule):
    """The factor that a function of yours returns: ``function(step, horizon)``.

    Use it on the command line and in YAML, for a curve that is easier to program than to compose; in Python, pass the
    function itself wherever a schedule goes. The function returns the multiplier of the base learning rate, never a
    learning rate.

    Args:
        function: Import path, ``"package.module.function"``, of a pure ``(step, horizon) -> float``.

    Raises:
        InputError: When the module or the function does not exist, or it cannot be called; on use, when it returns a
            factor that is negative or not finite.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Custom("lit_lrsched.schedules.custom.halve_every_epoch"), Horizon(10, steps_per_epoch=2), "epoch")
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """

    function: str

    def __post_init__(self) -> None:
        if not isinstance(self.function, str):
            raise InputError(
                f"function={shown(self.function)} is not text: write an import path like 'package.module.function', "
                "or pass the function itself where the schedule goes"
            )
        _resolve(self.function)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return factor_at(_resolve(self.function), step, horizon)


def halve_every_epoch(step: int, horizon: Horizon) -> float:
    """Returns ``0.5 ** epoch``: an example for :class:`Custom`."""
    return 0.5 ** int(horizon.epoch(step))


@lru_cache(maxsize=256)
def _resolve(path: str) -> Schedule:
    try:
        function = import_from(path)
    except InputError as error:
        raise InputError(f"function={error}") from None
    if not callable(function) or isinstance(function, type):
        raise InputError(
            f"function={shown(path)} is of type {type(function).__name__}: "
            "name a function (step, horizon) -> float instead"
        )
    return as_part(function, "function")

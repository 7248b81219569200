"""The one idea: a schedule is a pure function ``factor = schedule(step, horizon)``."""

from __future__ import annotations

import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, Union

from lit_lrsched.errors import InputError, cut, shown
from lit_lrsched.schedules.checks import check_choice

_Self = TypeVar("_Self")
_Built = TypeVar("_Built")

Interval = Literal["step", "epoch"]


@dataclass(frozen=True)
class Horizon:
    """How long training, or the enclosing phase, lasts.

    Args:
        steps: Number of optimizer steps, at least 1. Training uses steps 0 to ``steps - 1``.
        steps_per_epoch: Number of optimizer steps in an epoch, at least 1. None: epochs have no known length, and
            whatever counts in epochs is refused.

    Raises:
        InputError: When either is not a positive whole number.

    >>> Horizon(550, steps_per_epoch=11).epochs
    50.0
    >>> Horizon(550).epochs
    Traceback (most recent call last):
    lit_lrsched.schedules.core.NoEpochs: epochs needs to know how many steps an epoch has: give Horizon(steps=..., ...
    """

    steps: int
    steps_per_epoch: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "steps_per_epoch"):
            value = getattr(self, name)
            if value is None and name == "steps_per_epoch":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"a horizon needs {name} to be a whole number of at least 1, got {value!r}")

    def __str__(self) -> str:
        """Returns the length in words, such as ``550 steps (11 an epoch)``."""
        return f"{self.steps} steps" + (f" ({self.steps_per_epoch} an epoch)" if self.steps_per_epoch else "")

    @property
    def epochs(self) -> float:
        """The length in epochs, a fraction when the last epoch is cut short.

        Raises:
            NoEpochs: When ``steps_per_epoch`` is None.
        """
        return self.steps / epoch_length("epochs", self)

    def epoch(self, step: int) -> float:
        """Returns the epochs done at a step, a fraction within an epoch.

        Raises:
            NoEpochs: When ``steps_per_epoch`` is None.

        >>> Horizon(550, steps_per_epoch=11).epoch(22)
        2.0
        """
        return step / epoch_length("epoch", self)


class NoEpochs(InputError):
    """Something counts in epochs, and the horizon does not know how long they are."""


def epoch_length(wanted: str, horizon: Horizon) -> int:
    """Returns how many optimizer steps an epoch has.

    Args:
        wanted: What has to know it, for the message.
        horizon: The horizon.

    Raises:
        NoEpochs: When the horizon does not know.
    """
    if horizon.steps_per_epoch is None:
        raise NoEpochs(
            f"{wanted} needs to know how many steps an epoch has: give Horizon(steps=..., steps_per_epoch=...)"
        )
    return horizon.steps_per_epoch


class Schedule(ABC):
    """A pure function from the optimizer step to the factor that multiplies the base value.

    Subclass it as a frozen dataclass: one class, one formula in closed form, nothing accumulated. A plain function
    ``(step, horizon) -> float`` is accepted wherever a ``Schedule`` is.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Halving(Schedule):
    ...     every: int = 10
    ...     def __call__(self, step, horizon):
    ...         return 0.5 ** (step // self.every)
    >>> table(Halving(every=2), Horizon(5))
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    @abstractmethod
    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step.

        Args:
            step: 0-based count of optimizer steps taken so far.
            horizon: How long training, or the enclosing phase, lasts.

        Returns:
            The multiplier of the base value: finite and not negative.
        """


ScheduleLike = Union[Schedule, Callable[[int, Horizon], float]]


def factor_at(schedule: ScheduleLike, step: int, horizon: Horizon) -> float:
    """Returns ``schedule(step, horizon)``, refused when it could not multiply a learning rate.

    Raises:
        InputError: When the schedule fails, or the factor is not a number, not finite or negative.
        NoEpochs: When the schedule calculates with ``steps_per_epoch`` and that is None.
    """
    try:
        factor = schedule(step, horizon)
    except InputError:
        raise
    except Exception as error:
        if horizon.steps_per_epoch is None and "NoneType" in str(error):
            epoch_length(f"{describe(schedule)} ({error})", horizon)
        raise InputError(
            f"{describe(schedule)} fails at step {step} of {horizon.steps} with {told(error)}: "
            "correct it so that it holds at every step"
        ) from error
    value = factor if type(factor) is float else _as_float(factor)
    if not 0.0 <= value < math.inf:
        raise InputError(
            f"{describe(schedule)} returned {shown(factor)} at step {step} of {horizon.steps}: "
            "a factor must be a finite number of at least 0"
        )
    return value


def _as_float(factor: object) -> float:
    """Returns any one real number, an array's or tensor's without dimensions too, as a float; all else as nan."""
    if isinstance(factor, str) or getattr(factor, "ndim", None):
        return math.nan
    try:
        return float(factor)  # type: ignore[arg-type]
    except Exception:  # whatever the type of a foreign value makes of it
        return math.nan


def told(error: Exception) -> str:
    """Returns an exception in a line: its type, what it says, and the line of code below the caller that raised it."""
    lines = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(lines[-1].filename).name}, line {lines[-1].lineno})" if len(lines) > 1 else ""
    says = cut(" ".join(str(error).split()), 100)
    return f"{type(error).__name__}{f': {says}' if says else ''}{place}"


def per_horizon(build: Callable[[_Self, Horizon], _Built]) -> Callable[[_Self, Horizon], _Built]:
    """Decorates a pure method ``(self, horizon)`` of a frozen dataclass so that it is worked out once a horizon.

    A schedule is asked a million times about one horizon, and reading durations costs more than the formula. What is
    remembered lies beside the fields, so it takes no part in equality, hashing or the written configuration.
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


class Span(NamedTuple):
    """A named stretch of training, for plots and tables: steps ``start`` up to but without ``stop``."""

    name: str
    start: int
    stop: int


def describe(schedule: object) -> str:
    """Returns a short name for messages: the class of a schedule, the name of a function."""
    return getattr(schedule, "__name__", type(schedule).__name__)


def table(schedule: ScheduleLike, horizon: Horizon, interval: Interval = "step") -> list[float]:
    """Tabulates a schedule: one factor a tick, without running anything.

    Args:
        schedule: A :class:`Schedule` or a function ``(step, horizon) -> float``.
        horizon: How long training lasts.
        interval: ``"step"``: a tick is an optimizer step. ``"epoch"``: a tick is an epoch, whose factor is the one
            at its first step and is held until the next.

    Returns:
        Factors for ticks 0, 1, ...: ``horizon.steps`` of them, or one for every epoch that training begins.

    Raises:
        InputError: When a factor is not finite or is negative, or the schedule does not fit the horizon.

    >>> from lit_lrsched.schedules import Linear
    >>> table(Linear(end=0.5), Horizon(4))
    [1.0, 0.875, 0.75, 0.625]
    >>> table(Linear(end=0.5), Horizon(4, steps_per_epoch=2), interval="epoch")
    [1.0, 0.75]
    """
    stride = stride_of(interval, horizon)
    return [factor_at(schedule, step, horizon) for step in range(0, horizon.steps, stride)]


def stride_of(interval: Interval, horizon: Horizon) -> int:
    """Returns how many optimizer steps a tick lasts.

    Raises:
        InputError: When the interval is neither ``"step"`` nor ``"epoch"``.
        NoEpochs: When it is ``"epoch"`` and the horizon does not know how long an epoch is.
    """
    check_choice("interval", interval, ("step", "epoch"))
    return 1 if interval == "step" else epoch_length("interval='epoch'", horizon)

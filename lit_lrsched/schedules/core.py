"""The one idea: a schedule is a pure function ``factor = schedule(step, horizon)``."""

from __future__ import annotations

import math
import re
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, Union

from lit_lrsched.errors import InputError, cut, did_you_mean, shown

_Self = TypeVar("_Self")
_Built = TypeVar("_Built")

Interval = Literal["step", "epoch"]

# A bare number is in the type so that it reaches our own check, whose message shows the three spellings.
Duration = Union[str, float]

# No more than 15 digits, so that what is worked out from a duration stays a finite number.
_DURATION = re.compile(r"\s*(?P<value>\d{1,15}(?:\.\d{1,100})?)\s*(?P<unit>ep|st|%)\s*", re.ASCII)
_MOST = 10**15
_NUMBER = re.compile(r"\s*(?P<value>\d{1,15}(?:\.\d{1,100})?)\s*", re.ASCII)
_NEGATIVE = re.compile(r"\s*-\s*[\d.]+\s*(ep|st|%)?\s*", re.ASCII)


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


def check_duration(name: str, value: Duration) -> None:
    """Refuses at construction what :func:`steps_in` could not read later.

    Raises:
        InputError: For a bare number, an unknown unit, or a length that is not positive.

    >>> check_duration("warmup", 5)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: warmup=5 has no unit: write '5ep' (epochs), '5st' (optimizer steps) or '5%' ...
    """
    if parse_instant(name, value)[0] == 0:
        raise InputError(f"{name}={shown(value)} lasts no time at all: give a positive length, or leave it out")


def parse_instant(name: str, value: Duration) -> tuple[float, str]:
    """Reads a time counted from the start, which unlike a duration may be 0.

    Returns:
        The number and its unit: ``"ep"``, ``"st"`` or ``"%"``.

    Raises:
        InputError: For a bare number or an unknown unit.

    >>> parse_instant("time", "0st"), parse_instant("time", "10%")
    ((0.0, 'st'), (10.0, '%'))
    """
    if not isinstance(value, str):
        raise _no_unit(name, value)
    return _parse_duration(name, value)


def _no_unit(name: str, value: object) -> InputError:
    text = _NUMBER.fullmatch(value if isinstance(value, str) else f"{value:g}" if _is_finite(value) else "10")
    if text is None:
        return _no_duration(name, value)
    number = text["value"]
    if 0 < float(number) < 1:  # a share of the whole, as other libraries take it
        return InputError(
            f"{name}={shown(value)} has no unit: write '{100 * float(number):g}%' (of the horizon) "
            f"or '{number}ep' (epochs)"
        )
    return InputError(
        f"{name}={shown(value)} has no unit: write '{number}ep' (epochs), '{number}st' (optimizer steps) "
        f"or '{number}%' (of the horizon)"
    )


def _no_duration(name: str, value: object) -> InputError:
    reason = "is negative" if _NEGATIVE.fullmatch(str(value)[:100]) else "is not a duration"
    return InputError(
        f"{name}={shown(value)} {reason}: write a positive number and a unit, "
        "like '30ep' (epochs), '500st' (optimizer steps) or '10%' (of the horizon)"
    )


def check_not_negative(name: str, value: float) -> None:
    """Refuses at construction a factor, or another parameter, that has to be zero or more.

    Raises:
        InputError: When it is not a finite number of at least 0.

    >>> check_not_negative("end", -0.5)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: end=-0.5 has to be a finite number of at least 0: give one, like 0.1
    """
    if not (_is_finite(value) and value >= 0):
        raise InputError(f"{name}={shown(value)} has to be a finite number of at least 0: give one, like 0.1")


def check_positive(name: str, value: float, example: float) -> None:
    """Refuses at construction a parameter that has to be above zero.

    Raises:
        InputError: When it is not a finite number above 0; the message shows the example.

    >>> check_positive("power", 0, example=2.0)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: power=0 has to be a finite number above 0: give one, like 2.0
    """
    if not (_is_finite(value) and value > 0):
        raise InputError(f"{name}={shown(value)} has to be a finite number above 0: give one, like {example}")


def check_whole(name: str, value: int, least: int) -> None:
    """Refuses at construction a count that is not a whole number, or too small.

    Raises:
        InputError: When it is not a whole number of at least ``least``, or more than any training could count to.

    >>> check_whole("patience", -1, least=0)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: patience=-1 has to be a whole number of at least 0, and at most 1e+15
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST:
        raise InputError(f"{name}={shown(value)} has to be a whole number of at least {least}, and at most {_MOST:.0e}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuses at construction a word that is none of the choices.

    Raises:
        InputError: When it is none of them.

    >>> check_choice("mode", "mim", ["min", "max"])
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: mode='mim' is unknown (did you mean 'min'?): write 'min' or 'max'
    """
    if not isinstance(value, str) or value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InputError(f"{name}={shown(value)} is unknown{near}: write {' or '.join(map(repr, choices))}")


def _is_finite(value: object) -> bool:
    # Not `math.isfinite`, which cannot take an integer too large for a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


@lru_cache(maxsize=1024)
def _parse_duration(name: str, text: str) -> tuple[float, str]:
    match = _DURATION.fullmatch(text)
    if match is None and _NUMBER.fullmatch(text):
        raise _no_unit(name, text)
    if match is None:
        raise _no_duration(name, text)
    return float(match["value"]), match["unit"]


def instant_in(time: Duration, horizon: Horizon) -> float:
    """Returns a time counted from the start in optimizer steps, without rounding.

    Raises:
        InputError: When it is no time, or counts epochs of unknown length (:class:`NoEpochs`).

    >>> [instant_in(text, Horizon(15, steps_per_epoch=5)) for text in ("0st", "0.1ep", "10%")]
    [0.0, 0.5, 1.5]
    """
    value, unit = parse_instant("time", time)
    if unit == "%":
        return value * horizon.steps / 100
    return value * epoch_length(repr(time), horizon) if unit == "ep" else value


def length_in(duration: Duration | None, horizon: Horizon) -> float:
    """Returns a duration in optimizer steps, before any rounding.

    Args:
        duration: ``"30ep"``, ``"500st"``, ``"10%"`` of the horizon, or None for all of it.
        horizon: The enclosing horizon, which percentages and None refer to.

    Returns:
        The steps, perhaps a fraction. A length in steps or epochs is at least 1.

    >>> [length_in(text, Horizon(15, steps_per_epoch=5)) for text in ("2ep", "0.1ep", "10%", None)]
    [10.0, 1.0, 1.5, 15.0]
    """
    if duration is None:
        return float(horizon.steps)
    length = instant_in(duration, horizon)
    return length if "%" in str(duration) else max(1.0, length)


def steps_in(duration: Duration | None, horizon: Horizon) -> int:
    """Returns a duration as a whole number of optimizer steps, rounded to the nearest.

    Args:
        duration: ``"30ep"``, ``"500st"``, ``"10%"`` of the horizon, or None for all of it.
        horizon: The enclosing horizon, which percentages and None refer to.

    Returns:
        The steps. A length in steps or epochs is at least 1; a percentage of a very short horizon may round to 0.

    >>> horizon = Horizon(550, steps_per_epoch=11)
    >>> [steps_in(text, horizon) for text in ("30ep", "500st", "10%", None)]
    [330, 500, 55, 550]
    """
    if duration is None:
        return horizon.steps
    return _steps_in(duration, horizon.steps, horizon.steps_per_epoch)


@lru_cache(maxsize=4096)  # a schedule reads the same duration at every step
def _steps_in(duration: Duration, steps: int, steps_per_epoch: int | None) -> int:
    check_duration("duration", duration)
    return math.floor(length_in(duration, Horizon(steps, steps_per_epoch)) + 0.5)


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

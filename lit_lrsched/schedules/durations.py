"""Durations: lengths of time with a unit, such as ``30ep``, ``500st`` or ``10%``."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Union

from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.checks import is_finite
from lit_lrsched.schedules.core import Horizon, epoch_length

# The type admits a bare number, so that it reaches our own check, whose message shows the three spellings.
Duration = Union[str, float]

# At most 15 digits, so that whatever is computed from a duration stays finite.
_DURATION = re.compile(r"\s*(?P<value>\d{1,15}(?:\.\d{1,100})?)\s*(?P<unit>ep|st|%)\s*", re.ASCII)

_NUMBER = re.compile(r"\s*(?P<value>\d{1,15}(?:\.\d{1,100})?)\s*", re.ASCII)
_NEGATIVE = re.compile(r"\s*-\s*[\d.]+\s*(ep|st|%)?\s*", re.ASCII)


def check_duration(name: str, value: Duration) -> None:
    """Refuses what :func:`steps_in` could not read later.

    Raises:
        InputError: For a bare number, an unknown unit, or a length that is not positive.

    >>> check_duration("warmup", 5)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: warmup=5 has no unit: write '5ep' (epochs), '5st' (optimizer steps) or '5%' ...
    """
    if parse_instant(name, value)[0] == 0:
        raise InputError(f"{name}={shown(value)} lasts no time: give a positive length, or leave it out")


def parse_instant(name: str, value: Duration) -> tuple[float, str]:
    """Parses a time counted from the start. Unlike a duration it may be 0.

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
    text = _NUMBER.fullmatch(value if isinstance(value, str) else f"{value:g}" if is_finite(value) else "10")
    if text is None:
        return _no_duration(name, value)
    number = text["value"]
    if 0 < float(number) < 1:  # a fraction of the whole, as in other libraries
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
        InputError: When it is not a time, or counts epochs of unknown length (:class:`NoEpochs`).

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


def period_in(every: Duration, horizon: Horizon) -> int:
    """Returns the whole steps in a period, at least one."""
    return max(1, steps_in(every, horizon))

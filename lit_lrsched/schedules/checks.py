"""Checks of arguments. Each message has the value, the reason and the fix."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from lit_lrsched.errors import InputError, did_you_mean, shown

MOST = 10**15


def check_not_negative(name: str, value: float) -> None:
    """Refuses a parameter that is not a finite number of at least 0.

    Raises:
        InputError: When it is not a finite number of at least 0.

    >>> check_not_negative("end", -0.5)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: end=-0.5 has to be a finite number of at least 0: give one, like 0.1
    """
    if not (is_finite(value) and value >= 0):
        raise InputError(f"{name}={shown(value)} has to be a finite number of at least 0: give one, like 0.1")


def check_positive(name: str, value: float, example: float) -> None:
    """Refuses a parameter that is not a finite number above 0.

    Raises:
        InputError: When it is not a finite number above 0; the message shows the example.

    >>> check_positive("power", 0, example=2.0)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: power=0 has to be a finite number above 0: give one, like 2.0
    """
    if not (is_finite(value) and value > 0):
        raise InputError(f"{name}={shown(value)} has to be a finite number above 0: give one, like {example}")


def check_whole(name: str, value: int, least: int) -> None:
    """Refuses a count that is not a whole number, or out of range.

    Raises:
        InputError: When it is not a whole number from ``least`` to 1e15.

    >>> check_whole("patience", -1, least=0)
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: patience=-1 has to be a whole number of at least 0, and at most 1e+15
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
        raise InputError(f"{name}={shown(value)} has to be a whole number of at least {least}, and at most {MOST:.0e}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuses a word that is not among the choices.

    Raises:
        InputError: When it is not among them.

    >>> check_choice("mode", "mim", ["min", "max"])
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: mode='mim' is unknown (did you mean 'min'?): write 'min' or 'max'
    """
    if not isinstance(value, str) or value not in choices:
        near = did_you_mean(value, choices) if isinstance(value, str) else ""
        raise InputError(f"{name}={shown(value)} is unknown{near}: write {' or '.join(map(repr, choices))}")


def is_finite(value: object) -> bool:
    """Tells a finite number, which True and False are not."""
    # Not `math.isfinite`, which cannot take an integer too large for a float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def check_shrink(shrink: float) -> None:
    """Refuses a ratio of two cycles that is not above 0 and at most 1.

    Raises:
        InputError: When it is not.
    """
    check_positive("shrink", shrink, example=0.5)
    if shrink > 1:
        raise InputError(f"shrink={shown(shrink)} makes the cycles grow: give at most 1, like 0.5")


def as_tuple(name: str, values: Iterable[object], example: str) -> tuple[Any, ...]:
    """Returns the values of a list as a tuple, so that a schedule can be hashed.

    Raises:
        InputError: When it is not a list, or is empty; the message shows the example.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InputError(f"{name}={shown(values)} is not a list: write one, like [{example}]")
    found = tuple(values)
    if not found:
        raise InputError(f"{name} is empty: give at least one, like [{example}]")
    return found

"""Numbers as text: with as many decimals as they deserve, however small they are."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

NOTHING = "\N{EN DASH}"
"""What stands in a table where there is no number."""

_MOST = 6  # decimals; what needs more is written with an exponent


def decimals_of(intervals: Iterable[tuple[float, float]], values: Iterable[float | None]) -> int:
    """Returns how many decimals values deserve: a step of the last is at most a fifth of their intervals' usual half.

    Args:
        intervals: Where the interval of each begins and ends.
        values: The values; where no interval has a length, three digits of the smallest are shown.

    >>> decimals_of([(0.9, 0.916), (0.7, 0.7)], [0.908, 0.7]), decimals_of([(3e-8, 4e-8)], [3.5e-8])
    (3, 9)
    >>> decimals_of([(0.5, 0.5)], [0.5])
    3
    """
    halves = [(high - low) / 2 for low, high in intervals if high > low]
    return max(0, math.ceil(-math.log10(statistics.median(halves) / 5))) if halves else three_digits(values)


def three_digits(values: Iterable[float | None]) -> int:
    """Returns the decimals that show three digits of the smallest of some values, or 3 where all are 0.

    >>> three_digits([0.137, 0.9]), three_digits([2e-9]), three_digits([123.0, None]), three_digits([0.0])
    (3, 11, 0, 3)
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    return max(0, 2 - _magnitude(min(sizes))) if sizes else 3


def number(value: float | None, places: int, sign: bool = False) -> str:
    """Returns a number as text.

    Args:
        value: The number, or None.
        places: Decimals; of very small numbers the last one decides how many digits stand before the exponent.
        sign: Whether to write the sign of positive numbers.

    >>> [number(0.91234, 3), number(0.02, 3, sign=True), number(-0.0001, 3, sign=True), number(1.5e30, 3)]
    ['0.912', '+0.020', '0.000', '1.5e+30']
    >>> [number(3.1234e-8, 10), number(-4e-10, 10, sign=True), number(0.5, 10), number(0.0, 10)]
    ['3.12e-08', '-4e-10', '0.500000', '0']
    """
    if value is None:
        return NOTHING
    value = round(value, places) + 0.0  # + 0.0: no -0
    plus = "+" if sign and value else ""
    if not abs(value) < 1e6:  # nan neither
        return f"{value:{plus}.3g}"
    if places <= _MOST or abs(value) >= 0.001:
        return f"{value:{plus}.{min(places, _MOST)}f}"
    return f"{value:{plus}.{places + _magnitude(value)}e}" if value else "0"


def _magnitude(value: float) -> int:
    """Returns the power of ten of the first digit."""
    return math.floor(math.log10(abs(value)))


def percent(share: float) -> str:
    """Returns a share as text, to two digits.

    >>> percent(0.00213), percent(0.0149), percent(0.2), percent(0.999), percent(1.34)
    ('0.21 %', '1.5 %', '20 %', '100 %', '130 %')
    """
    return f"{float(f'{100 * share:.2g}'):g} %"

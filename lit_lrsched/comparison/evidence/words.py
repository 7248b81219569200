"""Numbers of a verdict as text."""

from __future__ import annotations


def exactly(rate: float) -> str:
    """Returns a rate as one types it, and reads the same one back.

    >>> [exactly(rate) for rate in (1.0, 3e-05, 1 / 3)]
    ['1', '3e-05', '0.3333333333333333']
    """
    return text if float(text := f"{rate:g}") == rate else repr(rate)


def figure(value: float, digits: int = 2) -> str:
    """Returns a number with so many digits, or with all before the point where these are more, as a table has it.

    >>> [figure(value) for value in (0.0123, 2151.2, -99.7, 1.5e30)], figure(11755.4, 4)
    (['0.012', '2151', '-100', '1.5e+30'], '11755')
    """
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text and abs(value) < 1e6 else text

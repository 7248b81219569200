"""Spans: the named stretches of training that plots and tables show."""

from __future__ import annotations

from typing import NamedTuple

_MOST_CYCLES = 1000


class Span(NamedTuple):
    """A named stretch of training: steps ``start`` up to but without ``stop``."""

    name: str
    start: int
    stop: int


def cycles(period: int, steps: int) -> list[Span]:
    """Returns one numbered span a period, the last one cut off by the horizon; a single span beyond 1000 periods.

    >>> for span in cycles(4, steps=10):
    ...     print(*span)
    cycle 1 0 4
    cycle 2 4 8
    cycle 3 8 10
    """
    starts = range(0, steps, period)
    if len(starts) > _MOST_CYCLES:
        return [Span("cycles", 0, steps)]
    return [Span(f"cycle {n}", start, min(start + period, steps)) for n, start in enumerate(starts, start=1)]

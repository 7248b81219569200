"""A curve in one line of text."""

from __future__ import annotations

from collections.abc import Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Returns a curve as blocks of eight heights, from 0 to its highest value.

    Args:
        values: The curve, at least one value, none of them negative.
        width: How many blocks to write.

    >>> sparkline([step / 100 for step in range(101)], width=12)
    '▁▁▂▃▃▄▅▆▆▇██'
    """
    highest = max(values) or 1.0
    places = [round(place * (len(values) - 1) / max(1, width - 1)) for place in range(width)]
    return "".join(_BLOCKS[min(7, int(8 * values[place] / highest))] for place in places)

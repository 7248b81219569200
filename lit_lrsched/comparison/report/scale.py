"""From values to shares of a length, with round ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence


class Scale:
    """From values to shares of a length, with round ticks."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        least = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(least))
        self._step = next(k * power for k in (1, 2, 5, 10) if k * power >= least)
        first, last = math.ceil(low / self._step), math.floor(high / self._step)
        self.ticks = [k * self._step for k in range(first, last + 1)]

    @classmethod
    def around(cls, values: Sequence[float]) -> Scale:
        """Returns the scale that holds all values with some air."""
        low, high = min(values), max(values)
        air = 0.06 * (high - low)
        if high - low <= 1e-9 * max(abs(low), abs(high)):  # one value, give or take rounding
            air = 0.05 * abs(high) or 1.0
        return cls(low - air, high + air)

    def share(self, value: float) -> float:
        """Returns where a value lies, from 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def percent(self, value: float) -> str:
        """Returns the same as a length of CSS."""
        return f"{100 * self.share(value):.2f}%"

    def label(self, value: float) -> str:
        """Returns a tick's value as text."""
        return f"{value:.{max(0, -math.floor(math.log10(self._step)))}f}" if abs(value) < 1e5 else f"{value:.3g}"

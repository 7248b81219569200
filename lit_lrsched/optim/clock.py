"""Which step of which horizon a schedule stands at, also after the horizon has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from lit_lrsched.schedules.core import Horizon

OnHorizonChange = Literal["replan", "keep", "stretch", "error"]


@dataclass(frozen=True)
class Clock:
    """Which step of which horizon the schedule stands at: its own, until a changed horizon bends the time.

    From step ``since`` on, the position moves from ``start`` at ``rate`` positions a step, to the horizon's end. How it
    came to ``start`` is not kept: evenly, as far as one change of the horizon goes.
    """

    horizon: Horizon
    since: int = 0
    start: int = 0
    rate: float = 1.0

    def __call__(self, step: int) -> int:
        """Returns the position of the schedule at a step of training."""
        if step < self.since:
            return round(self.start * step / self.since)
        since = step - self.since
        position = self.start + (since if self.rate == 1.0 else round(since * self.rate))
        return position if position < self.horizon.steps else self.horizon.steps

    def as_list(self) -> list[float | None]:
        """Returns it as numbers, for a checkpoint."""
        return [self.horizon.steps, self.horizon.steps_per_epoch, self.since, self.start, self.rate]

    @classmethod
    def from_list(cls, values: list[Any]) -> Clock:
        """Returns what :meth:`as_list` wrote."""
        steps, steps_per_epoch, since, start, rate = values
        return cls(Horizon(steps, steps_per_epoch), since, start, rate)

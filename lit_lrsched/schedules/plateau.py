"""Plateau, the one schedule that follows a metric. Its state is a separate object."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.checks import check_choice, check_not_negative, check_positive, check_whole
from lit_lrsched.schedules.compose import as_wrapped
from lit_lrsched.schedules.core import Horizon, Schedule, ScheduleLike, as_schedule, factor_at
from lit_lrsched.schedules.direction import Direction, direction_for
from lit_lrsched.schedules.shapes import Constant
from lit_lrsched.schedules.spans import Span

AnyT = TypeVar("AnyT")


@dataclass(frozen=True)
class PlateauState:
    """All that a :class:`Plateau` remembers: four numbers, ready for a checkpoint.

    Args:
        factor: What multiplies the wrapped schedule now: 1 until the metric stalls.
        best: The best value of the metric so far; before the first, infinity (minus infinity for ``"max"``).
        bad: Number of values in a row without improvement.
        cooldown: Number of values still to be ignored after a reduction.
    """

    factor: float
    best: float
    bad: int
    cooldown: int


@dataclass(frozen=True)
class Plateau(Schedule):
    """Multiplies the wrapped schedule down when a metric stalls: ``schedule(t) * factor ** (number of reductions)``.

    t is the step. Calling it gives the factor of the wrapped schedule alone, as if the metric never stalled, since the
    metric is not known in advance. The trainer keeps a :class:`PlateauState`, updates it with each value of the metric
    by :meth:`update`, and multiplies by its ``factor``.

    Use it to reduce the rate when progress stops, not at set times.

    Args:
        schedule: The schedule that is multiplied, a warmup, say; by default 1 throughout.
        monitor: Name of the logged metric.
        mode: ``"min"`` when the metric should fall, ``"max"`` when it should rise. None: as the name implies, such as
            ``val_loss`` or ``val_acc``.
        factor: Ratio of a reduction, above 0 and below 1.
        patience: Number of values without improvement that cause no reduction yet, at least 0.
        threshold: The smallest change that counts as an improvement, finite and at least 0.
        threshold_mode: ``"rel"``: the threshold is a fraction of the best value. ``"abs"``: it is in the metric's unit.
        cooldown: Number of values to ignore after a reduction, at least 0.
        min_factor: The lowest factor that reductions lead to, from 0 to 1.

    Raises:
        InputError: When an argument is out of range, or neither mode nor name tells which way is better.

    Equal to torch's ``ReduceLROnPlateau`` with ``eps=0`` for any values of the metric, nan included.

    >>> plateau = Plateau(factor=0.5, patience=1)
    >>> state = plateau.start()
    >>> for loss in (1.0, 0.8, 0.9, 0.8, 0.7):
    ...     state = plateau.update(state, loss)
    ...     print(loss, state.factor, state.bad)
    1.0 1.0 0
    0.8 1.0 0
    0.9 1.0 1
    0.8 0.5 0
    0.7 0.5 0
    """

    driven_by_metric = True

    schedule: ScheduleLike = Constant()  # noqa: RUF009  (frozen, so one instance serves all)
    monitor: str = "val_loss"
    mode: Direction | None = None
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_factor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_wrapped(self.schedule))
        if not isinstance(self.monitor, str) or not self.monitor:
            raise InputError(
                f"monitor={shown(self.monitor)} names no metric: write the name it is logged by, like 'val_loss'"
            )
        if self.mode is not None:
            check_choice("mode", self.mode, ("min", "max"))
        direction_for("monitor", self.monitor, self.mode)
        check_positive("factor", self.factor, example=0.1)
        if self.factor >= 1:
            raise InputError(f"factor={shown(self.factor)} reduces nothing: give one below 1, like 0.1")
        check_whole("patience", self.patience, least=0)
        check_not_negative("threshold", self.threshold)
        check_choice("threshold_mode", self.threshold_mode, ("rel", "abs"))
        check_whole("cooldown", self.cooldown, least=0)
        check_not_negative("min_factor", self.min_factor)
        if self.min_factor > 1:
            raise InputError(f"min_factor={shown(self.min_factor)} is above the 1 that it starts from: give at most 1")

    @cached_property
    def wrapped(self) -> Schedule:
        """The schedule that is multiplied."""
        return as_schedule(self.schedule)

    @property
    def direction(self) -> Direction:
        """Which way the metric is better: the mode, or what its name implies."""
        return direction_for("monitor", self.monitor, self.mode)

    @property
    def metric(self) -> list[str]:
        """What it follows: the metric's name, and which way that is better."""
        return [self.monitor, self.direction]

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the wrapped schedule's factor at a step."""
        return factor_at(self.wrapped, step, horizon)

    def start(self) -> PlateauState:
        """Returns the state before the first value of the metric."""
        return PlateauState(factor=1.0, best=math.inf if self.direction == "min" else -math.inf, bad=0, cooldown=0)

    def update(self, state: PlateauState, metric: float) -> PlateauState:
        """Returns the state after one more value of the metric.

        Args:
            state: The state so far, which stays as it is.
            metric: The new value. nan counts as no improvement.

        Returns:
            The new state.
        """
        value = float(metric)
        best, bad = (value, 0) if self._better(value, state.best) else (state.best, state.bad + 1)
        if state.cooldown > 0:
            return PlateauState(state.factor, best, 0, state.cooldown - 1)
        if bad > self.patience:
            return PlateauState(float(max(state.factor * self.factor, self.min_factor)), best, 0, self.cooldown)
        return PlateauState(state.factor, best, bad, 0)

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns those of the wrapped schedule."""
        return self.wrapped.spans(horizon)

    def companions(self) -> dict[str, Schedule]:
        """Returns those of the wrapped schedule, which the metric does not change."""
        return self.wrapped.companions()

    def _better(self, value: float, best: float) -> bool:
        if self.direction == "min":
            return value < (best * (1.0 - self.threshold) if self.threshold_mode == "rel" else best - self.threshold)
        return value > (best * (1.0 + self.threshold) if self.threshold_mode == "rel" else best + self.threshold)


def following(schedule: AnyT, monitor: str | None) -> AnyT:
    """Returns a plateau that follows another metric, if one is given; anything else as it is.

    >>> following(Plateau(), "val_acc").direction
    'max'
    """
    if monitor is None or not isinstance(schedule, Plateau):
        return schedule
    return replace(schedule, monitor=monitor)

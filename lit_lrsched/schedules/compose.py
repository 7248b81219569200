"""Composition: schedules made of schedules."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, NamedTuple

from lit_lrsched.errors import InputError, shown
from lit_lrsched.schedules.checks import as_tuple, check_shrink
from lit_lrsched.schedules.core import Horizon, Schedule, ScheduleLike, as_schedule, factor_at, title_of
from lit_lrsched.schedules.durations import Duration, check_duration, length_in, period_in
from lit_lrsched.schedules.per_horizon import per_horizon
from lit_lrsched.schedules.spans import Span, cycles


def as_wrapped(schedule: ScheduleLike, name: str = "schedule") -> Schedule:
    """Returns what a schedule that multiplies or delays another can wrap.

    Raises:
        InputError: When it is no schedule (:func:`~lit_lrsched.schedules.core.as_schedule`), or driven by a metric.
    """
    found = as_schedule(schedule, name)
    if found.driven_by_metric:
        raise InputError(
            f"{name}={found.describe()} follows a metric, which only the outermost schedule can: "
            f"wrap the whole instead, {found.describe()}(schedule=...)"
        )
    return found


def as_part(schedule: ScheduleLike, name: str = "schedule") -> Schedule:
    """Returns what can be one part of a composition.

    Raises:
        InputError: When it cannot be wrapped (:func:`as_wrapped`), or schedules another value as well.
    """
    found = as_wrapped(schedule, name)
    if others := found.companions():
        raise InputError(
            f"{name}={found.describe()} schedules {' and '.join(others)} too, which a composition cannot carry: "
            f"leave that out and give {' and '.join(others)} a schedule of its own"
        )
    return found


@dataclass(frozen=True)
class Phase:
    """A schedule and how long it lasts: a part of a :class:`Chain`.

    Args:
        schedule: The schedule of this phase, with its own step count and horizon.
        lasts: Duration of the phase; percentages are of the chain's horizon. By default all that remains.
        name: Name of the phase in plots and tables; by default those of the schedule's own spans.

    Raises:
        InputError: When ``schedule`` is not a schedule, ``lasts`` is not a duration, or ``name`` is not text.
    """

    schedule: ScheduleLike
    lasts: Duration | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_part(self.schedule))
        if self.lasts is not None:
            check_duration("lasts", self.lasts)
        if self.name is not None and not isinstance(self.name, str):
            raise InputError(f"name={shown(self.name)} is not text: write what to call the phase, like 'warmup'")


class _Leg(NamedTuple):
    """A phase in a known horizon: the step at which it starts, and its own horizon."""

    start: int
    horizon: Horizon
    schedule: Schedule
    name: str | None

    @classmethod
    def of(cls, phase: Phase, start: int, horizon: Horizon) -> _Leg:
        return cls(start, horizon, as_schedule(phase.schedule), phase.name)


@dataclass(frozen=True)
class Chain(Schedule):
    """One phase after another: ``phase(t - s, Horizon(l))``, where s is the phase's first step and l its length.

    t is the step. Each phase counts its steps from 0. After the last phase its end is held.

    Use it for any sequence of phases that is not among the recipes.

    Args:
        phases: The phases in order. At most one, at any place, may have no ``lasts``: it takes the rest. A phase in
            percent that rounds to no steps is skipped.

    Raises:
        InputError: At construction, when there are no phases or two without ``lasts``; on use, when the phases need
            more steps than the horizon has.

    >>> from lit_lrsched.schedules import Cosine, Horizon, Linear, table
    >>> chain = Chain([Phase(Linear(0.25, 1.0), lasts="3st"), Phase(Linear(1.0, 0.0))])
    >>> table(chain, Horizon(7))
    [0.25, 0.5, 0.75, 1.0, 0.75, 0.5, 0.25]
    >>> table(chain, Horizon(2))
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: phases need 3 steps but training has 2: shorten a phase or raise max_epochs
    """

    phases: Sequence[Phase]

    def __init__(self, phases: Sequence[Phase], *more: object) -> None:
        if more:
            given = [phases, *more]
            share = f"{100 // len(given)}%"
            lengths = [getattr(part, "lasts", None) or share for part in given]
            parts = [f"Phase({_written(part)}, lasts={lasts!r})" for part, lasts in zip(given, lengths, strict=True)]
            parts[-1] = f"Phase({_written(given[-1])})"
            raise InputError(
                f"Chain takes one list of phases, got {len(given)} arguments: write Chain([{', '.join(parts)}]), "
                "with durations of your own"
            )
        object.__setattr__(self, "phases", phases)
        self.__post_init__()

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", as_tuple("phases", self.phases, "Phase(Linear(), lasts='10ep')"))
        for index, phase in enumerate(self.phases):
            if not isinstance(phase, Phase):
                raise InputError(f"phases[{index}]={shown(phase)} is not a phase: write Phase(..., lasts='10ep')")
        open_ended = [str(index) for index, phase in enumerate(self.phases) if phase.lasts is None]
        if len(open_ended) > 1:
            raise InputError(
                f"phases {' and '.join(open_ended)} all take what remains: give lasts to all of them but one"
            )

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        starts, legs = self._legs(horizon)
        leg = legs[bisect_right(starts, step) - 1]
        return factor_at(leg.schedule, min(step - leg.start, leg.horizon.steps), leg.horizon)

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns the phases, with those of nested chains in place, and what is held after the last."""
        found: list[Span] = []
        for start, own, schedule, name in self._legs(horizon)[1]:
            inner = [Span(name, 0, own.steps)] if name else schedule.spans(own)
            found += [Span(part, start + begin, start + end) for part, begin, end in inner if start + end > 0]
        end = found[-1].stop if found else 0
        return found if end == horizon.steps else [*found, Span("held", end, horizon.steps)]

    @per_horizon
    def _legs(self, horizon: Horizon) -> tuple[list[int], list[_Leg]]:
        lengths = [length_in(phase.lasts, horizon) if phase.lasts else 0.0 for phase in self.phases]
        total = sum(lengths)
        if _whole(total) > horizon.steps:
            raise InputError(
                f"phases need {_whole(total)} steps but training has {horizon.steps}: "
                "shorten a phase or raise max_epochs"
            )
        # Boundaries are rounded, not lengths, so that 33% + 33% + 34% fill any horizon. After the phase that takes the
        # rest, boundaries are counted from the end, so that a last phase of 20% has 20% whatever came before.
        bounds = [0]
        rest = False
        for index, phase in enumerate(self.phases):
            rest = rest or phase.lasts is None
            bound = horizon.steps - _whole(sum(lengths[index + 1 :])) if rest else _whole(sum(lengths[: index + 1]))
            bounds.append(max(bound, bounds[-1]))
        legs = [
            _Leg.of(phase, start, Horizon(stop - start, horizon.steps_per_epoch))
            for phase, start, stop in zip(self.phases, bounds, bounds[1:], strict=False)
            if start < stop
        ]
        # All phases rounded to no steps: the end of the last is held, as if it were over before the first step.
        legs = legs or [_Leg.of(self.phases[-1], -1, Horizon(1, horizon.steps_per_epoch))]
        return [leg.start for leg in legs], legs


@dataclass(frozen=True)
class Product(Schedule):
    """The product of its schedules at the same step: ``schedules[0] * schedules[1] * ...``.

    Use it to combine two curves, such as a warmup and a staircase. In Python ``Linear() * Step("10ep")`` and
    ``Cosine() * 0.5`` make one.

    Args:
        schedules: The schedules to multiply, all with the same step and horizon; at least one.

    Raises:
        InputError: When there are none, or one of them is not a schedule.

    >>> from lit_lrsched.schedules import Horizon, Linear, Step, table
    >>> table(Product([Linear(), Step("2st", gamma=0.5)]), Horizon(4))
    [1.0, 0.75, 0.25, 0.125]
    """

    schedules: Sequence[ScheduleLike]

    def __post_init__(self) -> None:
        given = as_tuple("schedules", self.schedules, "Linear(), Step('10ep')")
        parts = tuple(as_part(schedule, f"schedules[{index}]") for index, schedule in enumerate(given))
        object.__setattr__(self, "schedules", parts)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        return math.prod([factor_at(part, step, horizon) for part in self._parts])

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns those of the only schedule that has several, or else the whole as one."""
        several = [spans for part in self._parts if len(spans := part.spans(horizon)) > 1]
        return several[0] if len(several) == 1 else super().spans(horizon)

    def describe(self) -> str:
        """Returns the factors, as in ``Linear * Constant(factor=0.5)``, or the class alone when that is long."""
        factors = " * ".join(title_of(part) for part in self._parts)
        return factors if len(factors) <= 60 else "Product"

    @cached_property
    def _parts(self) -> tuple[Schedule, ...]:
        return tuple(as_schedule(schedule) for schedule in self.schedules)


@dataclass(frozen=True)
class Repeat(Schedule):
    """The same schedule again in every cycle: ``shrink ** c * schedule(t - c * P, Horizon(P))``.

    t is the step, P the steps in ``every`` and ``c = floor(t / P)`` counts the cycles. At the end of the horizon no new
    cycle begins: the end of the last is held.

    Use it for cycles of any shape.

    Args:
        schedule: The schedule of a cycle, with its own step count and horizon.
        every: Duration of a cycle; at least a step.
        shrink: Ratio of the factors from a cycle to the next, above 0 and at most 1.

    Raises:
        InputError: When ``schedule`` is not a schedule, ``every`` is not a duration or ``shrink`` is out of range.

    >>> from lit_lrsched.schedules import Horizon, Linear, table
    >>> table(Repeat(Linear(), every="2st", shrink=0.5), Horizon(6))
    [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]
    """

    schedule: ScheduleLike
    every: Duration
    shrink: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_part(self.schedule))
        check_duration("every", self.every)
        check_shrink(self.shrink)

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        own = self._cycle(horizon)
        last = horizon.steps - 1
        cycle, t = divmod(min(step, last), own.steps)
        return self.shrink**cycle * factor_at(as_schedule(self.schedule), t if step <= last else t + 1, own)

    def spans(self, horizon: Horizon) -> list[Span]:
        """Returns the cycles."""
        return cycles(self._cycle(horizon).steps, horizon.steps)

    @per_horizon
    def _cycle(self, horizon: Horizon) -> Horizon:
        return Horizon(period_in(self.every, horizon), horizon.steps_per_epoch)


def _written(part: object) -> str:
    """Returns a schedule, or a phase's, as a call with the arguments that differ from their defaults."""
    own: Any = part.schedule if isinstance(part, Phase) else part
    if not is_dataclass(own):
        return shown(own)
    values = {field.name: (getattr(own, field.name), field.default) for field in fields(own)}
    given = [f"{name}={value!r}" for name, (value, default) in values.items() if value != default]
    return f"{type(own).__name__}({', '.join(given)})"


def _whole(steps: float) -> int:
    return math.floor(steps + 0.5)

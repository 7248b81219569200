"""A plan: every value that a run will set at every step. Uses the standard library only."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.schedules.checks import check_positive
from lit_lrsched.schedules.core import (
    Horizon,
    Interval,
    Schedule,
    epoch_length,
    factor_at,
    stride_of,
    title_of,
    wraps_function,
)
from lit_lrsched.schedules.custom import Custom
from lit_lrsched.schedules.formula import Formula
from lit_lrsched.schedules.plateau import Plateau, PlateauState
from lit_lrsched.schedules.shapes import Constant
from lit_lrsched.schedules.spans import Span

_QUANTITIES = ("lr", "momentum", "weight_decay")


class MadeFor(NamedTuple):
    """A length, in ticks, that a scheduler was given, and what it does after it.

    ``configured`` is the length that was given now, where a checkpoint has brought another in its place.
    """

    scheduler: str
    argument: str
    ticks: int
    then: Literal["turns back", "holds"]
    configured: int | None = None


@dataclass(frozen=True)
class Plan:
    """Every value that a run will set, by optimizer step.

    Args:
        title: What the schedule is called in tables and pictures.
        horizon: How long the run is.
        interval: How often the schedule moves on; a tick is that long.
        at: Returns the values at a step, by name: those of ``lr`` first.
        spans: The phases that the schedule names, if any.
        events: What happens at single steps, such as a reduction by a metric.
        notes: What the curve cannot show, one sentence each.
        made_for: Lengths in ticks that the schedule was given, which may differ from the run's.
        is_constant: Whether the schedule is constant on purpose.
        is_function: Whether it is a user's function or a class of unknown lengths, which may be constant on purpose.
        broken: Why the schedule stops the run before its end, if it does.
        begun: The step that a resumed run goes on from.
        policy: The ``on_horizon_change`` by which a resumed run follows the curve of a run of another length.

    >>> plan = plan_of(Constant(0.5), Horizon(20, steps_per_epoch=10), "epoch", lr=0.1)
    >>> plan.at(19), plan.ticks
    ({'lr': 0.05}, 2)
    """

    title: str
    horizon: Horizon
    interval: Interval
    at: Callable[[int], Mapping[str, float]]
    spans: Sequence[Span] = ()
    events: Sequence[tuple[int, str]] = ()
    notes: Sequence[str] = ()
    made_for: Sequence[MadeFor] = ()
    is_constant: bool = False
    is_function: bool = False
    broken: str | None = None
    begun: int = 0
    policy: Literal["keep", "stretch"] | None = None

    @property
    def stride(self) -> int:
        """The steps in a tick."""
        return stride_of(self.interval, self.horizon)

    @property
    def ticks(self) -> int:
        """The number of ticks, a last incomplete one included."""
        return math.ceil(self.horizon.steps / self.stride)


def plan_of(
    schedule: Schedule,
    horizon: Horizon,
    interval: Interval = "step",
    lr: float | None = None,
    groups: Mapping[str, Schedule] | None = None,
    metric: Sequence[float] = (),
) -> Plan:
    """Returns the plan of a schedule alone, without an optimizer.

    Args:
        schedule: Any :class:`~lit_lrsched.Schedule`.
        horizon: How long the run is.
        interval: What a tick is: ``"step"`` or ``"epoch"``.
        lr: The base learning rate, finite and above 0. None: the values are the factors that multiply it.
        groups: Schedules for ``"momentum"``, ``"weight_decay"`` or single param groups, as
            :class:`~lit_lrsched.ScheduledLR` takes them.
        metric: Values of the metric that a :class:`~lit_lrsched.Plateau` follows, one for each epoch.

    Raises:
        InputError: When a schedule does not fit the horizon, or ``groups`` has an unknown key.
    """
    for name in groups or {}:
        if name.partition("/")[0] not in _QUANTITIES:
            raise InputError(
                f"groups: unknown key {name!r}{did_you_mean(name, _QUANTITIES)}: write momentum, weight_decay, or one "
                "param group's, such as lr/backbone"
            )
    if lr is not None:
        check_positive("lr", lr, example=0.1)
    stride = stride_of(interval, horizon)
    others: dict[str, Schedule] = {**schedule.companions(), **(groups or {})}
    column = "factor" if lr is None else "lr"
    base = 1.0 if lr is None else lr
    seen = [epoch_length("metric", horizon) * (n + 1) for n in range(len(metric))]
    states = plateau_states(schedule, metric, seen)

    def at(step: int) -> dict[str, float]:
        own = step - step % stride
        factor = factor_at(schedule, own, horizon)
        if states:
            factor = factor * states.at(step).factor
        values = {column: base * factor}
        for name, other in others.items():
            value = factor_at(other, own, horizon)
            values[name if name.startswith("lr") else f"{name} factor"] = (
                base * value if name.startswith("lr") else value
            )
        return values

    return Plan(
        title_of(schedule),
        horizon,
        interval,
        at,
        spans=schedule.spans(horizon),
        events=states.events(horizon) if states else (),
        notes=notes_on(schedule, len(metric), math.floor(horizon.epochs) if metric else 0),
        is_constant=is_constant(schedule),
        is_function=is_function(schedule),
    )


def is_constant(schedule: Schedule) -> bool:
    """Tells a schedule that only a metric changes, if anything does."""
    return isinstance(schedule.wrapped if isinstance(schedule, Plateau) else schedule, Constant)


def is_function(schedule: Schedule) -> bool:
    """Tells a user's function: given itself, by its path, or as a formula."""
    return isinstance(schedule, (Custom, Formula)) or wraps_function(schedule)


def notes_on(schedule: Schedule, replayed: int, validations: int) -> list[str]:
    """Returns what the curve of a schedule cannot show, one sentence each.

    Args:
        schedule: Any schedule.
        replayed: How many recorded values of a metric it follows.
        validations: How many values the run has.
    """
    if not isinstance(schedule, Plateau):
        return []
    rule = f"x {schedule.factor:g}, patience {schedule.patience}, mode {schedule.direction}"
    if replayed:
        return [
            f"Plateau follows the recorded {schedule.monitor}, {replayed_in_words(replayed, validations)} ({rule})."
        ]
    held = f"Plateau is held at 1 until {schedule.monitor} stalls (then {rule})"
    return [f"{held}; metric=FILE replays a recorded one."]


def replayed_in_words(replayed: int, validations: int) -> str:
    """Returns how many values were recorded, and how many the run has where these are not as many.

    >>> replayed_in_words(20, validations=20), replayed_in_words(20, validations=10)
    ('20 values', '20 values for 10 validations')
    """
    return f"{replayed} values" + ("" if replayed == validations else f" for {validations} validations")


class PlateauStates(NamedTuple):
    """The states of a plateau under a recorded metric: ``states[n]`` holds from step ``since[n]`` on."""

    since: list[int]
    states: list[PlateauState]

    def at(self, step: int) -> PlateauState:
        """Returns the state at a step."""
        return self.states[bisect_right(self.since, step) - 1]

    def events(self, horizon: Horizon) -> list[tuple[int, str]]:
        """Returns the reductions within a horizon."""
        changes = zip(self.since[1:], self.states, self.states[1:], strict=False)
        return [
            (step, f"metric stalls: x {new.factor:g}")
            for step, old, new in changes
            if old.factor != new.factor and step < horizon.steps
        ]


def plateau_states(schedule: Schedule, metric: Sequence[float], seen: Sequence[int]) -> PlateauStates | None:
    """Returns the states of a plateau; None for any other schedule.

    Args:
        schedule: Any schedule.
        metric: The recorded values.
        seen: The number of optimizer steps done when each value is known.
    """
    if not isinstance(schedule, Plateau):
        return None
    since, states = [0], [schedule.start()]
    for step, value in zip(seen, metric, strict=False):
        since.append(step)
        states.append(schedule.update(states[-1], value))
    return PlateauStates(since, states)

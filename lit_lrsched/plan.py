"""What a run will set its optimizer to at every step, and where that changes. Needs the standard library alone."""

from __future__ import annotations

import csv
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from lit_lrsched.errors import InputError, did_you_mean
from lit_lrsched.schedules import (
    Constant,
    Custom,
    Formula,
    Horizon,
    Interval,
    Plateau,
    PlateauState,
    Schedule,
    ScheduleLike,
    Span,
    companions,
)
from lit_lrsched.schedules.compose import spans
from lit_lrsched.schedules.core import check_positive, describe, epoch_length, factor_at, stride_of

RISING, FALLING, CONSTANT = "rising", "falling", "constant"
_QUANTITIES = ("lr", "momentum", "weight_decay")
_TURNS = {
    (RISING, FALLING): "turns down",
    (FALLING, RISING): "turns up",
    (RISING, CONSTANT): "levels off",
    (FALLING, CONSTANT): "levels off",
    (CONSTANT, RISING): "starts to rise",
    (CONSTANT, FALLING): "starts to fall",
}


class Curve(NamedTuple):
    """The values at chosen steps, in order: a column for each value that is scheduled, such as ``lr/group0``."""

    steps: list[int]
    values: dict[str, list[float]]

    @property
    def main(self) -> list[float]:
        """The learning rate; the first group's, where there are several."""
        return next(iter(self.values.values()))


class MadeFor(NamedTuple):
    """A length, in ticks, that a scheduler was given, and what it does in a longer run."""

    scheduler: str
    argument: str
    ticks: int
    then: Literal["turns back", "holds"]


@dataclass(frozen=True)
class Plan:
    """Every value that a run will set, by optimizer step.

    Args:
        title: What the schedule is called in tables and pictures.
        horizon: How long the run is.
        interval: How often the schedule moves on; a tick is that long.
        at: Returns the values in force at a step, by name: those of ``lr`` first.
        spans: The phases that the schedule itself names, if any.
        events: What happens at single steps besides, such as a reduction by a metric.
        notes: What the curve cannot show, a sentence each.
        made_for: Lengths that the schedule was given in ticks, which the run may or may not have.
        is_constant: Whether the schedule is meant never to change.
        is_function: Whether it is somebody's function or a class of unknown lengths: these may be constant on purpose.
        broken: Why the schedule stops the run on its way, if it does.

    >>> plan = plan_of(Constant(0.5), Horizon(20, steps_per_epoch=10), "epoch", lr=0.1)
    >>> plan.at(19), plan.ticks, plan.epoch(15)
    ({'lr': 0.05}, 2, 1.5)
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

    @property
    def stride(self) -> int:
        """The steps in a tick."""
        return stride_of(self.interval, self.horizon)

    @property
    def ticks(self) -> int:
        """The ticks that the run begins."""
        return math.ceil(self.horizon.steps / self.stride)

    def epoch(self, step: int) -> float:
        """Returns the epochs done at a step, a fraction within an epoch.

        Raises:
            NoEpochs: When the horizon does not know how long an epoch is.
        """
        return self.horizon.epoch(step)


def plan_of(
    schedule: ScheduleLike,
    horizon: Horizon,
    interval: Interval = "step",
    lr: float | None = None,
    groups: Mapping[str, ScheduleLike] | None = None,
    metric: Sequence[float] = (),
) -> Plan:
    """Plans a schedule by itself, without an optimizer.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule` or a function ``(step, horizon) -> float``.
        horizon: How long the run is.
        interval: What a tick is: ``"step"`` or ``"epoch"``.
        lr: The base learning rate. None leaves the values what they multiply it by.
        groups: Schedules for ``"momentum"``, ``"weight_decay"`` or single param groups, as
            :class:`~lit_lrsched.ScheduledLR` takes them.
        metric: Values of the metric that a :class:`~lit_lrsched.Plateau` follows, one an epoch.

    Raises:
        InputError: When a schedule does not fit the horizon, or ``groups`` names what cannot be scheduled.
    """
    for name in groups or {}:
        if name.partition("/")[0] not in _QUANTITIES:
            raise InputError(
                f"groups: {name!r} is nothing to schedule{did_you_mean(name, _QUANTITIES)}: write momentum, "
                "weight_decay, or one group's, such as lr/backbone"
            )
    if lr is not None:
        check_positive("lr", lr, example=0.1)
    stride = stride_of(interval, horizon)
    others: dict[str, ScheduleLike] = {**companions(schedule), **(groups or {})}
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
        spans=spans(schedule, horizon),
        events=states.events(horizon) if states else (),
        notes=notes_on(schedule, bool(metric)),
        is_constant=is_constant(schedule),
        is_function=is_function(schedule),
    )


def is_constant(schedule: ScheduleLike) -> bool:
    """Tells a schedule that is meant never to change, unless a metric says so."""
    return isinstance(schedule.schedule if isinstance(schedule, Plateau) else schedule, Constant)


def is_function(schedule: ScheduleLike) -> bool:
    """Tells a function that somebody wrote, as such, by its path or as a formula."""
    return isinstance(schedule, (Custom, Formula)) or not isinstance(schedule, Schedule)


def notes_on(schedule: ScheduleLike, replayed: bool) -> list[str]:
    """Returns what a curve cannot show of a schedule."""
    if not isinstance(schedule, Plateau):
        return []
    rule = f"x {schedule.factor:g}, patience {schedule.patience}, mode {schedule.direction}"
    if replayed:
        return [f"Plateau follows the recorded {schedule.monitor} ({rule})."]
    held = f"Plateau is held at 1 until {schedule.monitor} stalls (then {rule})"
    return [f"{held}; --metric FILE replays a recorded metric."]


def title_of(schedule: ScheduleLike) -> str:
    """Returns the class and the arguments that are not the default's, when that is short; otherwise the class.

    >>> title_of(Plateau(patience=3)), title_of(Constant())
    ('Plateau(patience=3)', 'Constant')
    """
    name = describe(schedule)
    own: tuple[Field[object], ...] = fields(schedule) if is_dataclass(schedule) else ()
    given = [
        f"{field.name}={value if isinstance(value, str) else format(value, 'g')}"
        for field in own
        if isinstance(value := getattr(schedule, field.name), (int, float, str)) and value != field.default
    ]
    title = f"{name}({', '.join(given)})"
    return title if given and len(title) <= 60 else name


class PlateauStates(NamedTuple):
    """The states that a recorded metric takes a plateau through: ``states[n]`` holds from step ``since[n]``."""

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


def plateau_states(schedule: ScheduleLike, metric: Sequence[float], seen: Sequence[int]) -> PlateauStates | None:
    """Returns the states of a plateau; None for any other schedule.

    Args:
        schedule: Any schedule.
        metric: The recorded values.
        seen: How many optimizer steps are done when each value is known.
    """
    if not isinstance(schedule, Plateau):
        return None
    since, states = [0], [schedule.start()]
    for step, value in zip(seen, metric, strict=False):
        since.append(step)
        states.append(schedule.update(states[-1], value))
    return PlateauStates(since, states)


def read_metric(path: str, monitor: str) -> list[float]:
    """Reads a recorded metric: a number a line, or the column of a CSV file that bears the metric's name.

    Raises:
        InputError: When the file is missing, has no such column, or holds something else.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise InputError(f"metric={path!r} cannot be read: {error.strerror}: name a file of numbers") from error
    number = 0
    if rows and not _is_number(rows[0][0]):
        header, rows = rows[0], rows[1:]
        if monitor not in header and len(header) > 1:
            known = ", ".join(header)
            raise InputError(
                f"metric={path!r} has no column {monitor!r}{did_you_mean(monitor, header)}: it has {known}"
            )
        number = header.index(monitor) if monitor in header else 0
    cells = [row[number] for row in rows if number < len(row) and row[number].strip()]  # loggers leave some empty
    for cell in cells:
        if not _is_number(cell):
            raise InputError(f"metric={path!r} holds {cell!r}: write one number a line, or a CSV with a header")
    if not cells:
        raise InputError(f"metric={path!r} holds no values: write one number a line")
    return [float(cell) for cell in cells]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def look(plan: Plan, most: int = 4000) -> Curve:
    """Returns the curve at enough steps to draw it: all ticks of a short run, of a long one those that matter.

    Args:
        plan: Any plan.
        most: How many ticks to look at, about. Where more would be needed, those around each change are added.
    """
    stride, ticks, last = plan.stride, plan.ticks, plan.horizon.steps - 1
    every = math.ceil(ticks / most)
    edges = [edge for span in plan.spans for edge in (span.start, span.stop)] + [step for step, _ in plan.events]
    chosen = {tick for edge in edges for tick in range(edge // stride - 1, edge // stride + 2)}
    chosen |= {*range(0, ticks, every), ticks - 1}
    curve = _curve(plan, {tick * stride for tick in chosen if 0 <= tick < ticks} | {step for step, _ in plan.events})
    if every == 1:
        return curve
    turns = [
        span.start for column in curve.values.values() for span in trends(curve.steps, column, plan.horizon.steps)[1:]
    ]
    finer = stride * math.ceil(every / 250)  # every tick, unless there are more than a million of them
    close = {
        step
        for turn in turns[:20]
        for step in range(max(0, turn - 2 * every * stride), min(last, turn + every * stride), finer)
    }
    return _curve(plan, close.union(curve.steps))


def _curve(plan: Plan, steps: set[int]) -> Curve:
    ordered = sorted(steps)
    rows = [plan.at(step) for step in ordered]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    # What is never scheduled is of no interest, but the learning rate always is.
    kept = {name: values for name, values in columns.items() if name.startswith(("lr", "factor")) or _varies(values)}
    return Curve(ordered, kept)


def _varies(values: Sequence[float]) -> bool:
    return min(values) != max(values)


def trends(steps: Sequence[int], values: Sequence[float], end: int) -> list[Span]:
    """Returns the stretches over which values rise, fall or stay, each up to the start of the next or the end.

    A single jump between two stretches belongs to neither, so a staircase is made of its stairs.

    >>> for span in trends([0, 1, 2, 3, 4, 5], [1.0, 1.0, 0.5, 0.5, 0.4, 0.3], end=6):
    ...     print(*span)
    constant 0 2
    constant 2 3
    falling 3 6
    """
    small = 1e-9 * max(abs(value) for value in values)
    kinds = [
        CONSTANT if abs(after - before) <= small else RISING if after > before else FALLING
        for before, after in pairwise(values)
    ]
    runs: list[tuple[str, int, int]] = []  # kind, first and last index
    for index, kind in enumerate(kinds):
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1], index + 1)
        else:
            runs.append((kind, index, index + 1))
    kept = [
        run
        for number, run in enumerate(runs)
        if run[0] == CONSTANT or run[2] - run[1] > 1 or number in (0, len(runs) - 1)  # the others are jumps
    ]
    starts = [steps[0], *(steps[first] for _, first, _ in kept[1:])]
    return [
        Span(kind, start, stop)
        for (kind, _, _), start, stop in zip(kept or [(CONSTANT, 0, 0)], starts, [*starts[1:], end], strict=True)
    ]


def phases(plan: Plan, curve: Curve) -> list[Span]:
    """Returns the phases of the learning rate: those that the schedule names, otherwise those that the curve shows."""
    if len(plan.spans) > 1:
        return list(plan.spans)
    found = trends(curve.steps, curve.main, plan.horizon.steps)
    if len(found) > 12 and all(span.name == CONSTANT for span in found):
        # So many stairs are better told as the slope that they make.
        places = [bisect_left(curve.steps, span.start) for span in found]
        starts, values = [curve.steps[place] for place in places], [curve.main[place] for place in places]
        found = trends(starts, values, plan.horizon.steps)
    return found


def moments(plan: Plan, curve: Curve) -> list[tuple[int, str]]:
    """Returns the steps that tell about the curve, and why: the first, each change of phase, the peak, the last."""
    found: dict[int, list[str]] = {0: ["first step"]}
    parts, stride = phases(plan, curve), plan.stride
    for before, after in pairwise(parts):
        step = math.ceil(after.start / stride) * stride  # a phase shows from the tick on that begins in it
        found.setdefault(step, []).append(_turn(before.name, after.name))
    for step, what in plan.events:
        found.setdefault(step, []).append(what)
    rates = curve.main
    if _varies(rates):
        found.setdefault(curve.steps[rates.index(max(rates))], []).append("peak")
    last = plan.horizon.steps - 1
    found.setdefault(last, []).append("last step")
    return [(step, ", ".join(dict.fromkeys(names))) for step, names in sorted(found.items()) if step <= last]


def _turn(before: str, after: str) -> str:
    if before in (RISING, FALLING, CONSTANT):
        return _TURNS.get((before, after), "jumps")
    return f"{before} ends, {after} begins" if before != after else f"{after} begins again"

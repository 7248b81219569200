"""The curve of a plan: the steps to sample, and where it rises, falls and turns."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from lit_lrsched.plans.plan import Plan
from lit_lrsched.schedules.spans import Span

RISING, FALLING, CONSTANT = "rising", "falling", "constant"

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

    def since(self, step: int) -> Curve:
        """Returns the curve from a step on; of one that lies behind the last, what there is at the end.

        >>> Curve([0, 4, 8], {"lr": [0.3, 0.2, 0.1]}).since(4)
        Curve(steps=[4, 8], values={'lr': [0.2, 0.1]})
        """
        first = min(bisect_left(self.steps, step), len(self.steps) - 1)
        return Curve(self.steps[first:], {name: values[first:] for name, values in self.values.items()})


def sample(plan: Plan, most: int = 4000) -> Curve:
    """Returns the curve at enough steps to draw it: every tick of a short run, fewer of a long one.

    Args:
        plan: Any plan.
        most: About how many ticks to sample evenly. Of a longer run, the ticks around each change are added.
    """
    stride, ticks, last = plan.stride, plan.ticks, plan.horizon.steps - 1
    every = math.ceil(ticks / most)
    edges = [edge for span in plan.spans for edge in (span.start, span.stop)] + [step for step, _ in plan.events]
    chosen = {tick for edge in edges for tick in range(edge // stride - 1, edge // stride + 2)}
    chosen |= {*range(0, ticks, every), ticks - 1}
    begun = {plan.begun} if 0 < plan.begun <= last else set()
    curve = _curve(
        plan, {tick * stride for tick in chosen if 0 <= tick < ticks} | {step for step, _ in plan.events} | begun
    )
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
    # A value that never changes is left out, except the learning rate.
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
    >>> trends([0, 10, 20], [1.0, 1.0, 0.1], end=30)[-1]
    Span(name='constant', start=20, stop=30)
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
    if len(runs) > 1 and runs[-2][0] == CONSTANT and runs[-1][2] - runs[-1][1] == 1:  # the last stair has one tick
        runs[-1] = (CONSTANT, len(kinds), len(kinds))
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
        # Many stairs are shown as the slope that they make.
        places = [bisect_left(curve.steps, span.start) for span in found]
        starts, values = [curve.steps[place] for place in places], [curve.main[place] for place in places]
        found = trends(starts, values, plan.horizon.steps)
    return found


def key_moments(plan: Plan, curve: Curve) -> list[tuple[int, str]]:
    """Returns the key steps and what happens there: the first step, each change of phase, the peak, the last step."""
    found: dict[int, list[str]] = {0: ["first step"]}
    parts, stride = phases(plan, curve), plan.stride
    for before, after in pairwise(parts):
        step = math.ceil(after.start / stride) * stride  # a phase takes effect at the first tick inside it
        found.setdefault(step, []).append(_turn(before.name, after.name))
    for step, what in plan.events:
        found.setdefault(step, []).append(what)
    rates = curve.main
    if _varies(rates):
        found.setdefault(curve.steps[rates.index(max(rates))], []).append("peak")
    if plan.begun:
        found.setdefault(plan.begun, []).insert(0, "resumed here")
    last = plan.horizon.steps - 1
    found.setdefault(last, []).append("last step")
    return [(step, ", ".join(dict.fromkeys(names))) for step, names in sorted(found.items()) if step <= last]


def _turn(before: str, after: str) -> str:
    if before in (RISING, FALLING, CONSTANT):
        return _TURNS.get((before, after), "jumps")
    return f"{before} ends, {after} begins" if before != after else f"{after} begins again"

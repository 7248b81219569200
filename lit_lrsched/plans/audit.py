"""The audit of a plan: what is wrong or suspicious, each with the fix. Uses the standard library only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from lit_lrsched.plans.curve import FALLING, RISING, Curve, trends
from lit_lrsched.plans.plan import MadeFor, Plan

# A rate below this share of the peak counts as 0: torch's recursive schedulers leave a rounding error.
_ZERO = 1e-12


Level = Literal["failure", "warning"]


class Finding(NamedTuple):
    """One thing that the audit found: a failure is never intended, a warning may be."""

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


def audit(plan: Plan, curve: Curve) -> list[Finding]:
    """Returns what is wrong with a plan.

    Args:
        plan: The plan.
        curve: Its samples, from :func:`~lit_lrsched.plans.curve.sample`; for a resumed run, from the step reached on.

    >>> from lit_lrsched import Horizon, Linear
    >>> from lit_lrsched.plans.curve import sample
    >>> from lit_lrsched.plans.plan import plan_of
    >>> plan = plan_of(Linear(over="10ep"), Horizon(200, steps_per_epoch=10))
    >>> print(*audit(plan, sample(plan)))
    failure: the learning rate is 0 from step 100 (epoch 10) on: the last 100 of 200 steps train nothing: make ...
    """
    if plan.broken:
        return [_broken(plan, plan.broken)]
    return [*_momenta(plan, curve), *_rates(plan, curve)]


def _momenta(plan: Plan, curve: Curve) -> Iterator[Finding]:
    for name, value in plan.at(curve.steps[0]).items():
        if name.partition("/")[0] == "momentum" and (most := max(curve.values.get(name, [value]))) >= 1:
            text = f"the {name} reaches {most:.4g}, and has to stay below 1: lower it, or the factors of its schedule"
            yield Finding("failure", text)


def _rates(plan: Plan, curve: Curve) -> list[Finding]:
    rates = [values for name, values in curve.values.items() if name.startswith(("lr", "factor"))]
    trains = any(map(any, rates))
    if plan.is_constant or (plan.ticks == 1 and (trains or plan.interval == "step")):
        return []
    moving = [values for values in rates if min(values) != max(values)]
    is_resumed = curve.steps[0] > 0
    if not moving and not is_resumed:
        return [_never_changes(plan) if trains else _is_zero(plan)]
    found = [*audit_lengths(plan), *_short_phases(plan)]
    if found:  # a wrong length explains whatever the curve shows
        return found
    for values in rates if is_resumed else moving:
        found += [*_zeros(plan, curve.steps, values), *_shape(plan, curve.steps, values)]
    return list(dict.fromkeys([*found, *_flat_warmups(plan, curve.steps, rates)]))


def _broken(plan: Plan, why: str) -> Finding:
    """Returns why training stops, with the fix where a length that was given causes it."""
    lengths = [finding for finding in audit_lengths(plan) if finding.level == "failure"]
    short = [made for made in plan.made_for if made.ticks < plan.ticks]
    fix = f": {_fix(short[0], plan.ticks)}" if short else ""
    return lengths[0] if lengths else Finding("failure", why + fix)


def _never_changes(plan: Plan) -> Finding:
    each = "once an epoch" if plan.interval == "epoch" else "once an optimizer step"
    lengths = "".join(f", {made.argument}={made.ticks}" for made in plan.made_for if made.ticks >= plan.ticks)
    return Finding(
        "warning" if plan.is_function else "failure",
        f"{plan.title} never changes the learning rate in this run (it moves on {each}, {_times(plan.ticks)} in all"
        f"{lengths}): shorten the schedule or train longer",
    )


def _is_zero(plan: Plan) -> Finding:
    fix = f"give the optimizer a rate above 0, and {plan.title} factors above 0"
    if plan.ticks == 1:
        fix = "it changes only once an epoch: set interval='step'"
    return Finding("failure", f"the learning rate is 0 at every step, which trains nothing: {fix}")


def audit_lengths(plan: Plan) -> list[Finding]:
    """Compares the lengths that a scheduler was given in ticks with the ticks of the run, in either interval.

    Args:
        plan: The plan.
    """
    found = []
    other = "epoch" if plan.interval == "step" else "step"
    # Without the length of an epoch, their number is unknown as well.
    by_epoch = math.ceil(plan.horizon.epochs) if plan.horizon.steps_per_epoch else plan.ticks
    other_ticks = plan.horizon.steps if other == "step" else by_epoch
    for made in plan.made_for:
        given = f"{made.scheduler} is made for {made.argument}={made.ticks}"
        each = "an epoch" if plan.interval == "epoch" else "a step"
        gets = f"and moves on {_times(plan.ticks)} in this run, once {each}"
        if made.configured is not None:
            turns = made.then == "turns back" and made.ticks < plan.ticks - 1
            does = ", and climbs again after that" if turns else ""
            found.append(Finding("failure" if turns else "warning", f"{given} {gets}{does}: {_fix(made, plan.ticks)}"))
        elif made.ticks != plan.ticks and other_ticks != plan.ticks and _near(made.ticks, other_ticks):
            found.append(Finding("failure", f"{given} {gets}: set interval={other!r}"))
        elif made.ticks > plan.ticks:
            share = 100 * plan.ticks / made.ticks
            found.append(
                Finding("warning", f"{given} {gets}: it gets {share:.0f} % of its way: {_fix(made, plan.ticks)}")
            )
        elif made.then == "turns back" and made.ticks < plan.ticks - 1:
            found.append(Finding("failure", f"{given} {gets}: it climbs again after that: {_fix(made, plan.ticks)}"))
    return found


def _near(ticks: int, whole: int) -> bool:
    return abs(ticks - whole) <= 0.05 * whole


def _fix(made: MadeFor, ticks: int) -> str:
    if made.configured is not None:
        return (
            f"this is the checkpoint's, in place of the configured {made.configured}: "
            f"take FromTorch({made.scheduler!r}), which plans anew"
        )
    is_list = made.argument == "milestones"
    return "shorten the schedule or train longer" if is_list else f"set {made.argument}={ticks}"


def _short_phases(plan: Plan) -> list[Finding]:
    return [
        Finding(
            "warning",
            f"the phase {span.name!r} lasts {span.stop - span.start} steps, but the learning rate changes only once an "
            f"epoch, every {plan.stride}: set interval='step'",
        )
        for span in plan.spans[:-1]
        if plan.interval == "epoch" and span.stop - span.start < plan.stride and span.name != "held"
    ]


def _flat_warmups(plan: Plan, steps: Sequence[int], rates: Sequence[Sequence[float]]) -> list[Finding]:
    """Finds warmups in which no param group's rate rises, as when ``start`` is that of another schedule."""
    found = []
    for span in plan.spans:
        if span.name == "warmup" and {span.start, span.stop} <= {*steps}:
            begin, end = steps.index(span.start), steps.index(span.stop)
            if all(values[begin] >= values[end] for values in rates):
                first, last = rates[0][begin], rates[0][end]
                text = f"the warmup does not rise: it goes from {first:.4g} to {last:.4g}: give a lower start"
                found.append(Finding("warning", text))
    return found


def _zeros(plan: Plan, steps: Sequence[int], values: Sequence[float]) -> list[Finding]:
    total, zero = plan.horizon.steps, _ZERO * max(values)
    found = []
    level: Literal["failure", "warning"] = "failure"
    fix = "make the schedule longer, or end it above 0"
    if plan.policy:  # asked for, and perhaps for a schedule that does not end at 0
        level = "warning"
        fix = (
            f"on_horizon_change={plan.policy!r} follows the curve of the checkpoint: choose 'replan', or end it above 0"
        )
    if max(values) == 0:
        text = f"the learning rate is 0 from {_when(plan, steps[0])} to the end: that trains nothing"
        return [Finding(level, f"{text}: {fix if plan.policy else 'end it above 0'}")]
    first = next(index for index, value in enumerate(values) if value > zero)
    if first > 0:
        found.append(
            Finding(
                "warning",
                f"the learning rate is 0 until {_when(plan, steps[first])}: those steps train nothing: start above 0",
            )
        )
    last = next(index for index in reversed(range(len(values))) if values[index] > zero)
    if len(values) - 1 - last > 1:  # many schedules reach 0 at their last tick
        start = steps[last + 1]
        found.append(
            Finding(
                level,
                f"the learning rate is 0 from {_when(plan, start)} on: the last {total - start} of {total} steps train "
                f"nothing: {fix}",
            )
        )
    return found


def _shape(plan: Plan, steps: Sequence[int], values: Sequence[float]) -> list[Finding]:
    kinds = trends(steps, values, plan.horizon.steps)
    moves = [span for span in kinds if span.name in (RISING, FALLING)]
    if not moves or moves[-1].name != RISING or moves[-1] is not kinds[-1]:
        return []
    if len(moves) == 1:
        text = (
            "the learning rate rises until the last step: the warmup is longer than the run: shorten it or train longer"
        )
        return [Finding("warning", text)]
    turn = _when(plan, moves[-1].start)
    return [Finding("warning", f"the learning rate climbs again from {turn} on: let the schedule end with the run")]


def _when(plan: Plan, step: int) -> str:
    return f"step {step} (epoch {plan.horizon.epoch(step):.4g})" if plan.horizon.steps_per_epoch else f"step {step}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"

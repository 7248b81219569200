"""The plan as a table for the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lit_lrsched.plans.curve import Curve, key_moments
from lit_lrsched.plans.theory import ABOUT_PEAK, best_peaks
from lit_lrsched.plans.view import View, clock_of

if TYPE_CHECKING:
    from rich.table import Table


_MOST_ROWS = 16
MOST_COLUMNS = 3


def table(views: Mapping[str, View]) -> Table:
    """Returns a table: the key moments of a single plan, or one row for each of several."""
    from rich import box
    from rich.table import Table

    result = Table(box=box.SIMPLE_HEAD)
    if len(views) > 1:
        _fill_comparison(result, views)
    else:
        _fill_key_moments(result, next(iter(views.values())))
    return result


def _fill_key_moments(result: Table, view: View) -> None:
    plan = view.plan
    columns = dict(list(distinct(view.curve).items())[:MOST_COLUMNS])
    result.add_column("moment")
    unit, place = clock_of(plan)
    for name in dict.fromkeys(("step", unit, *columns)):
        result.add_column(name.replace("/", "/\n").replace(" ", "\n"), justify="right", no_wrap=True)
    rows = _repeats_in_one(key_moments(plan, view.curve))
    hidden = len(rows) - _MOST_ROWS
    for number, (first, last, what) in enumerate(rows):
        if hidden > 0 and _MOST_ROWS // 2 <= number < _MOST_ROWS // 2 + hidden:
            if number == _MOST_ROWS // 2:
                result.add_row(f"... {hidden} more ...")
            continue
        cells = []
        for step in dict.fromkeys((first, last)):
            when = [str(step), _short(place(step))] if unit == "epoch" else [str(step)]
            cells.append([*when, *(f"{plan.at(step)[key]:.4g}" for key in columns.values())])
        result.add_row(what, *(" ... ".join(dict.fromkeys(pair)) for pair in zip(*cells, strict=True)))


def _repeats_in_one(moments: Sequence[tuple[int, str]]) -> list[tuple[int, int, str]]:
    """Returns the first and the last step of each moment; what happens three times and more in a row is one.

    >>> _repeats_in_one([(0, "first step"), (5, "jumps"), (10, "jumps"), (15, "jumps"), (19, "last step")])
    [(0, 0, 'first step'), (5, 15, 'jumps, 3 times'), (19, 19, 'last step')]
    """
    runs: list[list[tuple[int, str]]] = []
    for moment in moments:
        if runs and _REPEATED.sub("", runs[-1][0][1]) == _REPEATED.sub("", moment[1]):
            runs[-1].append(moment)
        else:
            runs.append([moment])
    found = []
    for run in runs:
        if len(run) > 2:
            found.append((run[0][0], run[-1][0], f"{run[0][1]}, {len(run)} times"))
        else:
            found += [(step, step, what) for step, what in run]
    return found


_REPEATED = re.compile(r"(?<=^cycle )\d+|(?<=, cycle )\d+|(?<=^metric stalls: x ).*")


def _fill_comparison(result: Table, views: Mapping[str, View]) -> None:
    result.add_column("schedule", overflow="fold")
    unit, _ = clock_of(next(iter(views.values())).plan)
    for name in ("first", "peak", f"at {unit}", "mean", "last", "best peak"):
        result.add_column(name, justify="right")
    result.caption, result.caption_justify = ABOUT_PEAK, "left"
    best = best_peaks(views)
    for name, view in views.items():
        (steps, values), plan = (view.curve.steps, view.curve.main), view.plan
        lasting = [after - step for step, after in zip(steps, [*steps[1:], plan.horizon.steps], strict=True)]
        mean = sum(value * length for value, length in zip(values, lasting, strict=True)) / plan.horizon.steps
        peak = values.index(max(values))
        numbers = (values[0], values[peak], clock_of(plan)[1](steps[peak]), mean, values[-1])
        in_theory = best[name]
        result.add_row(
            name.replace("(", "\n("), *map(_short, numbers), "-" if in_theory is None else f"{in_theory:.3g} x"
        )


def _short(value: float) -> str:
    return f"{value:.4g}"


def distinct(curve: Curve) -> dict[str, str]:
    """Returns the columns that differ: a short name for tables and labels, and the column that it stands for.

    >>> distinct(Curve([0, 1], {"lr/a": [1.0, 0.5], "lr/b": [1.0, 0.5], "momentum/a": [0.9, 0.8]}))
    {'lr': 'lr/a', 'momentum': 'momentum/a'}
    """
    alike: dict[tuple[str, tuple[float, ...]], list[str]] = {}
    for name, values in curve.values.items():
        alike.setdefault((name.partition("/")[0], tuple(values)), []).append(name)
    quantities = [quantity for quantity, _ in alike]
    found = {}
    for (quantity, _), names in alike.items():
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        found[quantity if quantities.count(quantity) == 1 else names[0] + more] = names[0]
    return found

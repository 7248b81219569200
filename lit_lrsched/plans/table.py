"""The plan as a table: rows of plain numbers, and the same for the terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

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
    rows = rows_of({"": view})
    names = list(rows[0])
    names = names[: len(names) - len(distinct(view.curve)) + MOST_COLUMNS]
    result.add_column("moment")
    for name in names[1:]:
        result.add_column(name.replace("/", "/\n").replace(" ", "\n"), justify="right", no_wrap=True)
    runs = _repeats_in_one(rows)
    hidden = len(runs) - _MOST_ROWS
    for number, (what, run) in enumerate(runs):
        if hidden > 0 and _MOST_ROWS // 2 <= number < _MOST_ROWS // 2 + hidden:
            if number == _MOST_ROWS // 2:
                result.add_row(f"... {hidden} more ...")
            continue
        ends = [[str(row[n]) if n == "step" else _short(row[n]) for n in names[1:]] for row in (run[0], run[-1])]
        result.add_row(what, *(" ... ".join(dict.fromkeys(pair)) for pair in zip(*ends, strict=True)))


def _repeats_in_one(rows: Sequence[dict[str, Any]]) -> list[tuple[str, Sequence[dict[str, Any]]]]:
    """Returns what happens, and the rows of it: what happens three times and more in a row is one.

    >>> moments = ["first step", "jumps", "jumps", "jumps", "last step"]
    >>> [(what, len(run)) for what, run in _repeats_in_one([{"moment": moment} for moment in moments])]
    [('first step', 1), ('jumps, 3 times', 3), ('last step', 1)]
    """
    found: list[tuple[str, Sequence[dict[str, Any]]]] = []
    for _, alike in groupby(rows, lambda row: _REPEATED.sub("", row["moment"])):
        run = list(alike)
        if len(run) > 2:
            found.append((f"{run[0]['moment']}, {len(run)} times", run))
        else:
            found += [(row["moment"], [row]) for row in run]
    return found


_REPEATED = re.compile(r"(?<=^cycle )\d+|(?<=, cycle )\d+|(?<=^metric stalls: x ).*")


def _fill_comparison(result: Table, views: Mapping[str, View]) -> None:
    rows = rows_of(views)
    for name in rows[0]:
        result.add_column(name, justify="left" if name == "schedule" else "right", overflow="fold")
    result.caption, result.caption_justify = ABOUT_PEAK, "left"
    for row in rows:
        *numbers, best = list(row.values())[1:]
        in_theory = "-" if best is None else f"{best:.3g} x"
        result.add_row(row["schedule"].replace("(", "\n("), *map(_short, numbers), in_theory)


def rows_of(views: Mapping[str, View]) -> list[dict[str, Any]]:
    """Returns a dict a row, of plain numbers and text: key moments of a single plan, or one row for each of several.

    A key moment has ``moment``, ``step``, ``epoch`` where its length is known, and the values there. One of several
    plans has ``schedule``, ``first``, ``peak``, ``at epoch`` (or ``at step``), ``mean``, ``last``, and ``best peak``
    relative to the first's, None where theory has none.
    """
    if len(views) == 1:
        return _key_moments(next(iter(views.values())))
    best = best_peaks(views)
    return [{**_summary(name, view), "best peak": best[name]} for name, view in views.items()]


def _key_moments(view: View) -> list[dict[str, Any]]:
    unit, place = clock_of(view.plan)
    rows = []
    for step, what in key_moments(view.plan, view.curve):
        values = view.plan.at(step)
        shown = {name: values[column] for name, column in distinct(view.curve).items()}
        rows.append({"moment": what, "step": step, unit: place(step) if unit == "epoch" else step, **shown})
    return rows


def _summary(name: str, view: View) -> dict[str, Any]:
    (steps, values), plan = (view.curve.steps, view.curve.main), view.plan
    unit, place = clock_of(plan)
    lasting = [after - step for step, after in zip(steps, [*steps[1:], plan.horizon.steps], strict=True)]
    mean = sum(value * length for value, length in zip(values, lasting, strict=True)) / plan.horizon.steps
    peak = values.index(max(values))
    return {
        "schedule": name,
        "first": values[0],
        "peak": values[peak],
        f"at {unit}": place(steps[peak]),
        "mean": mean,
        "last": values[-1],
    }


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

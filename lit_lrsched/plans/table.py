"""The plan as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
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
    rows = key_moments(plan, view.curve)
    hidden = len(rows) - _MOST_ROWS
    for number, (step, what) in enumerate(rows):
        if hidden > 0 and _MOST_ROWS // 2 <= number < _MOST_ROWS // 2 + hidden:
            if number == _MOST_ROWS // 2:
                result.add_row(f"... {hidden} more ...")
            continue
        values = plan.at(step)
        when = [str(step), _short(place(step))] if unit == "epoch" else [str(step)]
        result.add_row(what, *when, *(f"{values[key]:.4g}" for key in columns.values()))


def _fill_comparison(result: Table, views: Mapping[str, View]) -> None:
    result.add_column("schedule")
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
        result.add_row(name, *map(_short, numbers), "-" if in_theory is None else f"{in_theory:.3g} x")


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

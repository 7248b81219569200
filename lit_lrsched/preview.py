"""Shows what schedules will do: a table, a picture and a CSV file, without training."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lit_lrsched.audit import Finding, audit
from lit_lrsched.errors import InputError
from lit_lrsched.plan import CONSTANT, Curve, Plan, look, moments, phases, plan_of
from lit_lrsched.schedules import Horizon, Interval, Schedule, ScheduleLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table

_MOST_ROWS = 16
_MOST_COLUMNS = 3
_MOST_SHADED = 12
_MOST_IN_ONE = 8  # more curves than this have a small picture each


def preview(
    schedule: ScheduleLike | Mapping[str, ScheduleLike],
    horizon: Horizon,
    interval: Interval = "step",
    lr: float | None = None,
) -> tuple[Table, Figure]:
    """Returns a table of the telling moments of a schedule, and its picture.

    Args:
        schedule: A :class:`~lit_lrsched.Schedule`, a function ``(step, horizon) -> float``, or several by name, which
            are set side by side.
        horizon: How long training lasts.
        interval: How often the schedule moves on, ``"step"`` or ``"epoch"``.
        lr: The base learning rate. None shows the factors that multiply it.

    Returns:
        A ``rich`` table and a ``matplotlib`` figure, which belongs to no window: ``figure.savefig("curve.png")``.

    Raises:
        InputError: When a schedule does not fit the horizon.

    >>> from lit_lrsched import Horizon, WarmupCosine
    >>> table, figure = preview(WarmupCosine(warmup="10%"), Horizon(500, steps_per_epoch=10), lr=0.1)
    >>> [list(column.cells)[1] for column in table.columns]
    ['warmup ends, decay begins, peak', '50', '5', '0.1']
    """
    schedules = schedule if isinstance(schedule, Mapping) else {"": schedule}
    views = {name: View.of(plan_of(one, horizon, interval, lr)) for name, one in schedules.items()}
    return table(views), picture(views)


class View(NamedTuple):
    """A plan and what there is to be seen of it."""

    plan: Plan
    curve: Curve
    findings: Sequence[Finding]

    @classmethod
    def of(cls, plan: Plan, findings: Sequence[Finding] = ()) -> View:
        """Looks at a plan: its curve, and what the audit says besides what is known already."""
        curve = look(plan)
        return cls(plan, curve, [*findings, *audit(plan, curve)])


def named(schedules: Mapping[str, Any] | list[Any]) -> dict[str, Any]:
    """Returns schedules by name: their own, numbered where two have the same, or those that they were given.

    >>> from lit_lrsched import Cosine, Linear
    >>> list(named([Linear(), Cosine(), Linear(end=0.1)]))
    ['Linear', 'Cosine', 'Linear 2']
    """
    if isinstance(schedules, Mapping):
        return dict(schedules)
    found: dict[str, Any] = {}
    for schedule in schedules:
        name = type(schedule).__name__ if isinstance(schedule, Schedule) else _class_behind(schedule)
        count = sum(known.split(" ")[0] == name for known in found)
        found[f"{name} {count + 1}" if count else name] = schedule
    return found


def _class_behind(factory: Any) -> str:
    # jsonargparse wraps a class that awaits its first argument.
    inner = [argument for argument in getattr(factory, "args", ()) if isinstance(argument, type)]
    return (inner[-1] if inner else factory).__name__


def show(
    views: Mapping[str, View], refused: Sequence[Finding] = (), png: str | None = None, csv: str | None = None
) -> int:
    """Prints tables and findings, and writes the files that are asked for.

    Args:
        views: What to show, by name; a single plan needs none.
        refused: Why plans are missing, if any are.
        png: File for the picture.
        csv: File for every tick of every plan.

    Returns:
        1 when there is a failure among the findings, otherwise 0.

    Raises:
        InputError: When a file cannot be written.
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    findings = list(refused)
    for plan in {view.plan.horizon: view.plan for view in views.values()}.values():
        console.print(_run_in_words(plan))
    if views:
        console.print(table(views))
    for name, view in views.items():
        of = f"{name}: " if name else ""
        findings += [Finding(finding.level, of + finding.text) for finding in view.findings]
        left_out = list(distinct(view.curve))[_MOST_COLUMNS:] if len(views) == 1 else []
        for note in [
            *view.plan.notes,
            *([f"In the picture and --csv only: {', '.join(left_out)}."] if left_out else []),
        ]:
            console.print(Text(of + note))
    for finding in findings:
        console.print(Text.assemble((finding.level, _STYLES[finding.level]), f": {finding.text}"))
    if png and views:
        _write(png, lambda path: picture(views).savefig(path))
        console.print(Text(f"Picture: {png}"))
    if csv and views:
        _write(csv, lambda path: _write_csv(path, views))
        console.print(Text(f"Every tick: {csv}"))
    return int(any(finding.level == "failure" for finding in findings))


_STYLES = {"failure": "bold red", "warning": "yellow"}


def _write(name: str, save: Any) -> None:
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path)
    except (OSError, ValueError) as error:  # matplotlib raises ValueError for a format it does not know
        reason = getattr(error, "strerror", None) or str(error).split("(")[0].strip()
        raise InputError(f"{name!r} cannot be written: {reason}: give another file") from error


def _run_in_words(plan: Plan) -> str:
    horizon = plan.horizon
    steps = f"{horizon.steps:,} step{'s' * (horizon.steps > 1)}"
    if horizon.steps_per_epoch is None:
        return steps
    epochs = math.ceil(horizon.epochs)
    whole = f"{epochs:,} epochs of {horizon.steps_per_epoch:,}" if epochs > 1 else "one epoch"
    return f"{steps}, {whole}{', the last cut short' if epochs > 1 and horizon.steps % horizon.steps_per_epoch else ''}"


def _clock(plan: Plan) -> tuple[str, Callable[[int], float]]:
    """Returns what a run is measured in, epochs where their length is known, and how far it is at a step."""
    return ("epoch", plan.epoch) if plan.horizon.steps_per_epoch else ("step", float)


def table(views: Mapping[str, View]) -> Table:
    """Returns a table: the moments of a single plan, or a line for each of several."""
    from rich import box
    from rich.table import Table

    result = Table(box=box.SIMPLE_HEAD)
    if len(views) > 1:
        _fill_comparison(result, views)
    else:
        _fill_moments(result, next(iter(views.values())))
    return result


def _fill_moments(result: Table, view: View) -> None:
    plan = view.plan
    columns = dict(list(distinct(view.curve).items())[:_MOST_COLUMNS])
    result.add_column("moment")
    unit, place = _clock(plan)
    for name in dict.fromkeys(("step", unit, *columns)):
        result.add_column(name.replace("/", "/\n").replace(" ", "\n"), justify="right", no_wrap=True)
    rows = moments(plan, view.curve)
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
    unit, _ = _clock(next(iter(views.values())).plan)
    for name in ("first", "peak", f"at {unit}", "mean", "last"):
        result.add_column(name, justify="right")
    for name, view in views.items():
        (steps, values), plan = (view.curve.steps, view.curve.main), view.plan
        lasting = [after - step for step, after in zip(steps, [*steps[1:], plan.horizon.steps], strict=True)]
        mean = sum(value * length for value, length in zip(values, lasting, strict=True)) / plan.horizon.steps
        peak = values.index(max(values))
        numbers = (values[0], values[peak], _clock(plan)[1](steps[peak]), mean, values[-1])
        result.add_row(name, *map(_short, numbers))


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


def _write_csv(path: Path, views: Mapping[str, View]) -> None:
    columns = list(dict.fromkeys(column for view in views.values() for column in view.curve.values))
    named = len(views) > 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        units = dict.fromkeys(["step", *(_clock(view.plan)[0] for view in views.values())])
        writer.writerow([*(["schedule"] if named else []), *units, *columns])
        for name, view in views.items():
            plan = view.plan
            for step in range(0, plan.horizon.steps, plan.stride):
                values = plan.at(step)
                times = [step, int(_clock(plan)[1](step))][: len(units)]
                row = [*times, *(values.get(column, "") for column in columns)]
                writer.writerow([name, *row] if named else row)


# A palette that colour-blind people can tell apart (Okabe and Ito 2008), in an order that sets neighbours apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F4FC9", "#5A5A5A")
_INK, _FAINT, _SHADE = "#222222", "#777777", "#F3F4F6"
_HEIGHTS = {"lr": 3.0, "factor": 3.0}


def picture(views: Mapping[str, View]) -> Figure:
    """Returns the picture: every distinct curve of a single plan, or the learning rates of several side by side."""
    return gallery(views) if len(views) > _MOST_IN_ONE else _together(views)


def _together(views: Mapping[str, View]) -> Figure:
    from matplotlib.figure import Figure

    single = len(views) == 1
    first = next(iter(views.values()))
    quantities: dict[str, list[tuple[str, View, str]]] = {}
    for name, view in views.items():
        for short, column in distinct(view.curve).items():
            quantity = column.partition("/")[0]
            label = (short.partition("/")[2] or "the others") if single else name
            quantities.setdefault(quantity, []).append((label, view, column))
    heights = [_HEIGHTS.get(quantity, 1.3) for quantity in quantities]
    figure = Figure(figsize=(9, 1.5 + sum(heights)), dpi=150, layout="constrained", facecolor="white")
    panels = figure.subplots(len(quantities), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (quantity, curves) in zip(panels, quantities.items(), strict=True):
        _dress(axes, quantity)
        if single:
            _shade(axes, first, named=axes is panels[0])
        for (_, view, column), colour in zip(curves, _COLOURS * len(curves), strict=False):
            _draw(axes, view, column, colour)
        if len(curves) > 1:
            _label_ends(axes, curves)
        elif single and axes is panels[0]:
            _mark_peak_and_end(axes, first, curves[0][2])
    _scale_in_epochs(panels[0], panels[-1], first.plan)
    title = first.plan.title if single else " · ".join(views) if len(" · ".join(views)) < 60 else "learning rates"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    figure.text(0.99, 0.985, _run_in_words(first.plan), ha="right", va="top", fontsize=8.5, color=_FAINT)
    return figure


def gallery(views: Mapping[str, View], columns: int = 4) -> Figure:
    """Returns a small picture for each plan."""
    from matplotlib.figure import Figure

    rows = math.ceil(len(views) / columns)
    figure = Figure(figsize=(2.6 * columns, 1.75 * rows), dpi=150, layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(views) :]:
        axes.set_visible(False)
    for axes, (name, view) in zip(panels.flat, views.items(), strict=False):
        _draw_small(axes, view, name, phases_named=False)
    return figure


def thumbnail(view: View) -> Figure:
    """Returns the picture of a plan in the size of a card: quick to draw, for a plan with a single distinct curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2.8), dpi=100, facecolor="white")
    axes = figure.add_axes((0.11, 0.1, 0.86, 0.78))  # to find out by itself what room it needs takes twice the time
    _draw_small(axes, view, view.plan.title, phases_named=True)
    peak, end = max(view.curve.main), view.curve.main[-1]
    if 0.1 * peak < end < 0.9 * peak:  # else the labels would run into each other
        axes.set_yticks([0, end, peak])
    return figure


def _draw_small(axes: Axes, view: View, title: str, phases_named: bool) -> None:
    _dress(axes, "")
    _shade(axes, view, named=phases_named)
    _draw(axes, view, next(iter(view.curve.values)), _COLOURS[0])
    axes.set_title(title, loc="left", fontsize=9, color=_INK)
    end = _clock(view.plan)[1](view.plan.horizon.steps)
    axes.set_xlim(0, end)
    axes.set_xticks([0, end])
    axes.set_yticks([0, max(view.curve.main)])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:.3g}")


def _dress(axes: Axes, quantity: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=_FAINT, linewidth=0.6)
    axes.tick_params(colors=_FAINT, labelcolor=_INK, labelsize=8, width=0.6, length=3)
    names = {"lr": "learning rate", "factor": "factor of the learning rate"}
    axes.set_ylabel(names.get(quantity, quantity.replace("_", " ")), fontsize=9, color=_INK)


def _draw(axes: Axes, view: View, column: str, colour: str) -> None:
    plan, values = view.plan, view.curve.values[column]
    ends = [_clock(plan)[1](step) for step in (*view.curve.steps, plan.horizon.steps)]
    held = _is_held(plan)
    axes.plot(
        ends if held else ends[:-1],
        [*values, values[-1]] if held else values,
        drawstyle="steps-post" if held else "default",
        color=colour,
        linewidth=1.8,
        solid_joinstyle="round",
    )
    if column.startswith(("lr", "factor")):
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.14 * max(values)) or 1.0)


def _is_held(plan: Plan) -> bool:
    return plan.interval == "epoch" or plan.ticks <= 60  # few enough steps to be views as such


def _shade(axes: Axes, view: View, named: bool) -> None:
    plan, parts = view.plan, phases(view.plan, view.curve)
    _, place = _clock(plan)
    if not 1 < len(parts) <= _MOST_SHADED:
        return
    free = 0.0  # how much of the width is written on
    for number, part in enumerate(parts):
        begin, end = part.start / plan.horizon.steps, part.stop / plan.horizon.steps
        if number % 2 == 0:
            axes.axvspan(place(part.start), place(part.stop), color=_SHADE, linewidth=0, zorder=0)
        name = part.name
        if name == CONSTANT:  # the stair of a staircase is better called by its height
            name = f"{plan.at(part.start)[next(iter(view.curve.values))]:.3g}"
        width = 0.0115 * len(name)
        left = max((begin + end - width) / 2, begin + 0.005)
        if named and left >= free and left + width <= 1 and (end - begin) > 0.3 * width:
            axes.text(left, 0.985, name, transform=axes.transAxes, va="top", fontsize=8, color=_FAINT)
            free = left + width + 0.01


def _mark_peak_and_end(axes: Axes, view: View, column: str) -> None:
    plan, values, steps = view.plan, view.curve.values[column], view.curve.steps
    peak, last = values.index(max(values)), len(values) - 1
    for index in {peak, last}:
        place, across = (
            ((7, 0), "left") if index == last else ((3 if index == 0 else 0, 4), "center" if index else "left")
        )
        held = index == last and _is_held(plan)
        at = (_clock(plan)[1](plan.horizon.steps if held else steps[index]), values[index])
        axes.plot(*at, "o", color=_COLOURS[0], markersize=4, clip_on=False)
        axes.annotate(
            f"{values[index]:.3g}",
            at,
            place,
            textcoords="offset points",
            ha=across,
            va="center" if index == last else "bottom",
            fontsize=8,
            color=_INK,
            annotation_clip=False,
        )


def _label_ends(axes: Axes, curves: Sequence[tuple[str, View, str]]) -> None:
    """Writes each curve's name beside its end, in its colour, moved apart where ends lie close."""
    low, high = axes.get_ylim()
    columns = [view.curve.values[column] for _, view, column in curves]
    # Curves that meet at the end are named in the order in which they come in.
    order = sorted(
        range(len(curves)), key=lambda n: (round(columns[n][-1] / high, 2), sum(columns[n][-len(columns[n]) // 5 :]))
    )
    at = low - (high - low)
    for n in order:
        end, colour = columns[n][-1], _COLOURS[n % len(_COLOURS)]
        at = max(end, at + (high - low) / 16)
        axes.annotate(
            curves[n][0],
            (1.0, end),
            (1.025, at),
            xycoords=axes.get_yaxis_transform(),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            color=colour,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _scale_in_epochs(top: Axes, bottom: Axes, plan: Plan) -> None:
    (unit, place), per_epoch = _clock(plan), plan.horizon.steps_per_epoch
    bottom.set_xlim(0, place(plan.horizon.steps))
    bottom.set_xlabel(unit, fontsize=9, color=_INK)
    if per_epoch is None:
        return
    forward_and_back = (lambda epoch: epoch * per_epoch, lambda step: step / per_epoch)
    steps = top.secondary_xaxis("top", functions=cast("Any", forward_and_back))
    steps.spines["top"].set(color=_FAINT, linewidth=0.6)
    steps.tick_params(colors=_FAINT, labelcolor=_FAINT, labelsize=7.5, width=0.6, length=3)
    steps.set_xlabel("step", fontsize=8, color=_FAINT)
    steps.xaxis.set_major_formatter("{x:,.0f}")

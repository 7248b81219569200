"""The plan as a picture."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lit_lrsched.errors import InputError, shown
from lit_lrsched.plans.curve import CONSTANT, phases
from lit_lrsched.plans.plan import Plan
from lit_lrsched.plans.table import distinct
from lit_lrsched.plans.view import View, clock_of, run_in_words
from lit_lrsched.schedules.drawing import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_MOST_SHADED = 12
MOST_IN_ONE = 8  # more curves than this have a small picture each

_INK, _FAINT, _SHADE, _PAST = "#222222", "#777777", "#F3F4F6", "#B0B0B0"
_HEIGHTS = {"lr": 3.0, "factor": 3.0}


class Look(NamedTuple):
    """How a picture is to look.

    Args:
        title: Its title; empty for none, None for the names of the schedules.
        log: Whether the scale of the learning rate is logarithmic.
        size: Its width and height in inches; None for what its panels need.
    """

    title: str | None = None
    log: bool = False
    size: tuple[float, float] | None = None


def look_of(title: str | None, log: bool, size: Sequence[float] | None) -> Look:
    """Returns how a picture is to look, as it is typed.

    Raises:
        InputError: When the size is not a width and a height from 1 to 100 inches.

    >>> look_of("", True, [6, 4])
    Look(title='', log=True, size=(6, 4))
    """
    if size is None:
        return Look(title, log)
    if len(size) != 2 or not all(1 <= side <= 100 for side in size):
        raise InputError(f"size={shown(size)} is not a width and a height from 1 to 100 inches: give two, like 9,4.5")
    return Look(title, log, (size[0], size[1]))


def picture(views: Mapping[str, View], look: Look | None = None) -> Figure:
    """Returns the picture: every distinct curve of a single plan, or the learning rates of several side by side.

    Args:
        views: The plans by name; a single one has the name ``""``.
        look: How it is to look, where they are few enough for one picture. None: as usual.
    """
    return gallery(views) if len(views) > MOST_IN_ONE else _together(views, look or Look())


def _together(views: Mapping[str, View], look: Look) -> Figure:
    from matplotlib.figure import Figure

    single = len(views) == 1
    first = next(iter(views.values()))
    quantities = _quantities(views)
    heights = [_HEIGHTS.get(quantity, 1.3) for quantity in quantities]
    figure = Figure(figsize=look.size or (9, 1.5 + sum(heights)), dpi=150, layout="constrained", facecolor="white")
    panels = figure.subplots(len(quantities), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (quantity, curves) in zip(panels, quantities.items(), strict=True):
        _fill(axes, quantity, curves, single, first=axes is panels[0], log=look.log)
    _scale_in_epochs(panels[0], panels[-1], first.plan)
    title = first.plan.title if single else " · ".join(views) if len(" · ".join(views)) < 60 else "learning rates"
    figure.suptitle(
        title if look.title is None else look.title,
        x=0.01,
        ha="left",
        fontsize=12,
        fontweight="bold",
        color=_INK,
        parse_math=look.title is not None,
    )
    done = f" · {first.plan.begun:,} done, in grey" if first.plan.begun else ""
    figure.text(0.99, 0.985, run_in_words(first.plan) + done, ha="right", va="top", fontsize=8.5, color=_FAINT)
    return figure


def draw_rates(views: Mapping[str, View], axes: Axes) -> None:
    """Draws the learning rates alone, on axes that are there."""
    quantity, curves = next(iter(_quantities(views).items()))
    _fill(axes, quantity, curves, single=len(views) == 1, first=True)
    plan = curves[0][1].plan
    axes.set_xlim(0, clock_of(plan)[1](plan.horizon.steps))
    axes.set_xlabel(clock_of(plan)[0], fontsize=9, color=_INK)
    if len(views) == 1:
        axes.set_title(plan.title, loc="left", fontsize=10, color=_INK, parse_math=False)


_Curves = list[tuple[str, View, str]]  # what each is called, its plan, and its column there


def _quantities(views: Mapping[str, View]) -> dict[str, _Curves]:
    """Returns the curves by quantity, which have a panel each."""
    quantities: dict[str, _Curves] = {}
    for name, view in views.items():
        for short, column in distinct(view.curve).items():
            label = (short.partition("/")[2] or "the others") if len(views) == 1 else name
            quantities.setdefault(column.partition("/")[0], []).append((label, view, column))
    return quantities


def _fill(axes: Axes, quantity: str, curves: _Curves, single: bool, first: bool, log: bool = False) -> None:
    """Draws the curves of one quantity, with the phases of a single plan, which the first panel names."""
    _dress(axes, quantity)
    if single:
        _shade(axes, curves[0][1], named=first)
    for (_, view, column), colour in zip(curves, COLOURS * len(curves), strict=False):
        _draw(axes, view, column, colour)
    if log and quantity in _HEIGHTS:
        _scale_in_powers(axes, curves)
    if len(curves) > 1:
        _label(axes, curves)
    elif single and first:
        _mark_peak_and_end(axes, curves[0][1], curves[0][2])


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
    _draw(axes, view, next(iter(view.curve.values)), COLOURS[0])
    axes.set_title(title, loc="left", fontsize=9, color=_INK, parse_math=False)
    end = clock_of(view.plan)[1](view.plan.horizon.steps)
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
    ends = [clock_of(plan)[1](step) for step in (*view.curve.steps, plan.horizon.steps)]
    held = _is_held(plan)
    begun = bisect_left(view.curve.steps, plan.begun)
    for first, last, hue in ((0, begun, _PAST), (begun, len(values), colour)):
        drawn = values[first:last]
        if drawn:
            axes.plot(
                ends[first : last + held],
                [*drawn, drawn[-1]] if held else drawn,
                drawstyle="steps-post" if held else "default",
                color=hue,
                linewidth=1.8,
                solid_joinstyle="round",
            )
    if plan.begun:
        axes.axvline(clock_of(plan)[1](plan.begun), color=_FAINT, linewidth=0.8, linestyle=":")
    if column.startswith(("lr", "factor")):
        axes.set_ylim(0, max(axes.get_ylim()[1], 1.14 * max(values)) or 1.0)


def _is_held(plan: Plan) -> bool:
    return plan.interval == "epoch" or plan.ticks <= 60  # few enough steps to be views as such


def _shade(axes: Axes, view: View, named: bool) -> None:
    plan, parts = view.plan, phases(view.plan, view.curve)
    _, place = clock_of(plan)
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
            axes.text(
                *(left, 0.985, name),
                transform=axes.transAxes,
                va="top",
                fontsize=8,
                color=_FAINT,
                parse_math=False,
            )
            free = left + width + 0.01


def _mark_peak_and_end(axes: Axes, view: View, column: str) -> None:
    plan, values, steps = view.plan, view.curve.values[column], view.curve.steps
    peak, last = values.index(max(values)), len(values) - 1
    for index in {peak, last}:
        place, across = (
            ((7, 0), "left") if index == last else ((3 if index == 0 else 0, 4), "center" if index else "left")
        )
        held = index == last and _is_held(plan)
        at = (clock_of(plan)[1](plan.horizon.steps if held else steps[index]), values[index])
        hue = _PAST if steps[index] < plan.begun else COLOURS[0]
        axes.plot(*at, "o", color=hue, markersize=4, clip_on=False)
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


def _scale_in_powers(axes: Axes, curves: _Curves) -> None:
    """Makes the scale logarithmic, from the lowest rate above 0, but over twelve powers of ten at most."""
    values = [value for _, view, column in curves for value in view.curve.values[column] if value > 0]
    if values:
        axes.set_yscale("log")
        axes.set_ylim(0.8 * max(min(values), 1e-12 * max(values)), 2 * max(values))


def _label(axes: Axes, curves: _Curves) -> None:
    """Names the curves beside their ends; where ends meet, at the places where the curves are furthest apart."""
    ends = sorted(_heights(axes, [view.curve.values[column][-1] for _, view, column in curves]))
    if all(after - before > 0.03 for before, after in pairwise(ends)):
        _label_ends(axes, curves)
    else:
        _label_middles(axes, curves)


def _heights(axes: Axes, values: Sequence[float]) -> list[float]:
    """Returns how high values lie in a panel, from 0 to 1, on either scale."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        return [math.log(max(value, low) / low) / math.log(high / low) for value in values]
    return [(value - low) / (high - low) for value in values]


def _label_ends(axes: Axes, curves: _Curves) -> None:
    """Writes each curve's name beside its end, in its colour, moved apart where ends lie close."""
    ends = _heights(axes, [view.curve.values[column][-1] for _, view, column in curves])
    at = -1.0
    for n in sorted(range(len(curves)), key=ends.__getitem__):
        at = max(ends[n], at + 1 / 16)
        axes.annotate(
            curves[n][0],
            (1.0, ends[n]),
            (1.025, at),
            xycoords=axes.transAxes,
            textcoords=axes.transAxes,
            va="center",
            fontsize=8.5,
            color=COLOURS[n % len(COLOURS)],
            parse_math=False,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": COLOURS[n % len(COLOURS)],
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


_PLACES = [place / 50 for place in range(1, 50)]  # across a panel, in shares of its width


def _label_middles(axes: Axes, curves: _Curves) -> None:
    """Writes each curve's name on it, in its colour, where the other curves and names are furthest."""
    from matplotlib.patheffects import withStroke

    lines = [_heights(axes, _sampled(view, column, _PLACES)) for _, view, column in curves]
    written: list[tuple[float, float]] = []
    for n, (name, _, _) in enumerate(curves):
        half = 0.0036 * len(name)  # of the width of the name
        others = [line for m, line in enumerate(lines) if m != n]
        room = {
            place: min(_nearest(place, lines[n][place], half, others), _nearest_name(place, lines[n][place], written))
            for place in range(len(_PLACES))
            if half < _PLACES[place] < 1 - half
        }
        # Beyond an eighth of the height more room is no better: then rather near the middle.
        best = max(room or {0: 0.0}, key=lambda place: min(room.get(place, 0), 0.12) - 0.02 * abs(_PLACES[place] - 0.5))
        written.append((_PLACES[best], lines[n][best]))
        axes.text(
            *written[-1],
            name,
            transform=axes.transAxes,
            ha="center",
            va="center",
            fontsize=8.5,
            color=COLOURS[n % len(COLOURS)],
            parse_math=False,
            path_effects=[withStroke(linewidth=3, foreground="white")],
        )


def _nearest(place: int, height: float, half: float, lines: Sequence[Sequence[float]]) -> float:
    """Returns how far the nearest curve is from a name that is written at a place."""
    under = [near for near, x in enumerate(_PLACES) if abs(x - _PLACES[place]) <= half]
    return min((abs(line[near] - height) for line in lines for near in under), default=1.0)


def _nearest_name(place: int, height: float, written: Sequence[tuple[float, float]]) -> float:
    return min((abs(x - _PLACES[place]) / 4 + abs(y - height) for x, y in written), default=1.0)


def _sampled(view: View, column: str, places: Sequence[float]) -> list[float]:
    """Returns a curve at shares of the run."""
    steps, values = view.curve.steps, view.curve.values[column]
    return [values[bisect_right(steps, place * view.plan.horizon.steps) - 1] for place in places]


def _scale_in_epochs(top: Axes, bottom: Axes, plan: Plan) -> None:
    (unit, place), per_epoch = clock_of(plan), plan.horizon.steps_per_epoch
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

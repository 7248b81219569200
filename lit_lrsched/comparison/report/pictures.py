"""The comparison's pictures: differences, learning rates, curves with bands, the rate x schedule map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from lit_lrsched.comparison.evidence.summary import Summary
from lit_lrsched.comparison.report.results import LearningCurve, Results, metric_range, shade_range
from lit_lrsched.comparison.report.words import decimals, planes, shortened, shortened_apart
from lit_lrsched.plans.figures import GRID, INK, SOFT, new_figure, plain, save
from lit_lrsched.plans.numbers import number
from lit_lrsched.schedules.drawing import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Ten of Paul Tol's colours, told apart with any colour vision; past ten, other dashes.
_COLORS = ("#332288", "#CC6677", "#117733", "#DDAA33", "#4477AA", "#AA4499", "#44AA99", "#882255", "#999933", "#777777")
_DASHES = ("-", "--", ":", "-.")
_OTHERS = "#cfd4d9"
_AHEAD, _BEHIND, _REFERENCE = "#0b63c5", "#4c5763", "#b4530a"
_SHADES = ("#eff2f5", "#0b4f9e")
_COLUMNS = 5  # the most small pictures in a row


def write_pictures(results: Results, folder: Path) -> list[str]:
    """Writes ``rates.png``, ``curves.png``, ``map.png`` and ``differences``, this as PNG, SVG and PDF for a paper.

    Only ``rates.png`` is there when every run diverged, and ``differences`` takes two schedules that did not. Of a
    schedule of which every run broke off there are no rates to draw.

    Args:
        results: The race.
        folder: Where to, an existing folder.

    Returns:
        The names of the files.
    """
    drawn = results.curves
    used = [curve for curve in drawn if len(curve.rates)]
    pictures = {"rates.png": _rates(used, results.epochs)} if used else {}
    finished = [curve for curve in drawn if curve.schedule.mean is not None]
    if any(len(curve.mean) for curve in finished):
        pictures["curves.png"] = _curves(finished, results)
    if finished:
        pictures["map.png"] = _map(results)
    if len(finished) > 1:
        forest, _ = forest_plot(results.summary)
        pictures |= {f"differences.{kind}": forest for kind in ("png", "svg", "pdf")}
    for name, figure in pictures.items():
        save(figure, folder / name)
        figure.set_layout_engine("none")  # its other files have the same layout
    return list(pictures)


def _plain(axes: Axes) -> None:
    plain(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.8)


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK, parse_math=False)


def forest_plot(summary: Summary, ax: Axes | None = None) -> tuple[Figure, Axes]:
    """Draws the paired difference of each schedule from the best, with its simultaneous interval.

    Args:
        summary: What the race says; of two schedules at least, some runs did not diverge.
        ax: Where to draw; None for a figure of its own.

    Returns:
        The figure and its axes.
    """
    rows = [row for row in summary.schedules if row.mean is not None]
    axes = ax or new_figure(8, 1.5 + 0.3 * len(rows)).add_subplot()
    figure = cast("Figure", axes.figure)
    _plain(axes)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.axvline(0, color=INK, linewidth=1)
    for place, row in enumerate(rows):
        difference = row.against_best
        color = _AHEAD if row.schedule in summary.tied else _BEHIND
        axes.plot(difference.gain if difference else 0.0, place, "o", color=color, markersize=5)
        if difference is not None and difference.low is not None and difference.high is not None:
            axes.plot([difference.low, difference.high], [place, place], color=color, linewidth=2)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), shortened_apart([row.schedule for row in rows], 22), parse_math=False)
    axes.tick_params(axis="y", labelcolor=INK)
    title = f"{summary.metric}: difference from {shortened(str(summary.best), 30)}, seed by seed"
    words = "left of 0: worse; blue: cannot be told from the best"
    if any(row.against_best and row.against_best.low is not None for row in rows):
        words = f"simultaneous {100 * (1 - summary.alpha):g} % intervals; {words}"
    if ax is None:
        _title(figure, title)
        figure.supxlabel(words, x=0.01, ha="left", fontsize=8, color=SOFT, parse_math=False)
    else:
        axes.set_title(title, loc="left", fontsize=9, color=INK, parse_math=False)
        axes.set_xlabel(words, fontsize=8, color=SOFT, parse_math=False)
    return Plot(figure, axes)


def _rates(drawn: Sequence[LearningCurve], epochs: int) -> Figure:
    """Draws the learning rate as each epoch begins at the chosen settings, every line labelled at its end."""
    from matplotlib.collections import LineCollection

    figure = new_figure(8, max(4.2, 0.24 * len(drawn)))
    axes = figure.add_subplot()
    _plain(axes)
    _title(figure, "Learning rate as each epoch begins, at the chosen setting")
    top = 1.05 * max(float(curve.rates.max()) for curve in drawn) or 1.0
    axes.set_ylim(0, top)
    axes.set_xlim(1, max(2, epochs))
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("epoch", fontsize=8, color=SOFT)
    # A line of text takes about a 21st of the axes, less in a taller figure.
    places = spread([float(curve.rates[-1]) for curve in drawn], top * 0.2 / figure.get_figheight(), top)
    beside, leaders = axes.get_yaxis_transform(), []
    names = shortened_apart([curve.schedule.schedule for curve in drawn], 30)
    for i, (curve, place, name) in enumerate(zip(drawn, places, names, strict=True)):
        color, dashes = _COLORS[i % len(_COLORS)], _DASHES[i // len(_COLORS) % len(_DASHES)]
        epoch = np.arange(1, len(curve.rates) + 1)
        axes.plot(epoch, curve.rates, color=color, linestyle=dashes, linewidth=1.8, clip_on=False)
        axes.text(1.05, place, name, transform=beside, color=color, fontsize=8.5, va="center", parse_math=False)
        leaders.append([(1.0, float(curve.rates[-1])), (1.045, place)])
    colors = [_COLORS[i % len(_COLORS)] for i in range(len(drawn))]
    axes.add_collection(
        LineCollection(leaders, colors=colors, linewidths=0.7, transform=beside, clip_on=False), autolim=False
    )
    return figure


def spread(places: Sequence[float], gap: float, top: float) -> list[float]:
    """Returns places for labels: near the ones wanted, in their order, and at least a gap apart.

    Args:
        places: Where the labels would like to be, from 0 to ``top``.
        gap: What has to lie between two.
        top: The highest place; the lowest is whatever room demands. Of equal ones the first goes highest.

    >>> spread([0.0, 0.0, 0.9], gap=0.25, top=1.0)
    [0.25, 0.0, 0.9]
    >>> spread([1.0, 1.0], gap=0.25, top=1.0)
    [1.0, 0.75]
    """
    order = sorted(range(len(places)), key=lambda i: (places[i], -i))
    result = list(places)
    below = -math.inf
    for i in order:
        result[i] = below = max(places[i], below + gap)
    above = top + gap
    for i in reversed(order):
        result[i] = above = min(result[i], above - gap)
    return result


def _curves(drawn: Sequence[LearningCurve], results: Results) -> Figure:
    """Draws the metric of each schedule against the epoch, with the others behind it."""
    from matplotlib.collections import LineCollection

    summary = results.summary
    rows = math.ceil(len(drawn) / _COLUMNS)
    columns = math.ceil(len(drawn) / rows)
    width, height = max(6.5, 2.1 * columns), 0.8 + 1.75 * rows
    figure = new_figure(width, height)
    _title(figure, f"{results.validation_metric} after each epoch")
    # Small pictures of one size need no layout engine, which would measure every text of each, twice.
    figure.set_layout_engine("none")
    grid = figure.add_gridspec(
        rows, columns, left=0.6 / width, right=1 - 0.15 / width, top=1 - 0.65 / height, bottom=0.5 / height
    )
    grid.update(wspace=0.18, hspace=0.42)
    low, high = metric_range(drawn, summary.mode)
    air = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    reference = next((curve for curve in drawn if curve.schedule.schedule == summary.reference), None)
    epoch = np.arange(1, len(drawn[0].mean) + 1)
    marker = "." if len(epoch) == 1 else ""
    titles = shortened_apart([curve.schedule.schedule for curve in drawn], 22)
    for i, curve in enumerate(drawn):
        name = curve.schedule.schedule
        axes = figure.add_subplot(grid[i])
        _plain(axes)
        axes.set_ylim(low - air, high + air)
        axes.set_xlim(1, max(2, len(epoch)))
        axes.set_xticks([1, len(epoch)])
        axes.locator_params(axis="y", nbins=4)
        axes.tick_params(labelleft=i % columns == 0)
        color = _AHEAD if name in summary.tied else _BEHIND
        axes.set_title(titles[i], loc="left", y=1, fontsize=9, fontweight="bold", color=color, parse_math=False)
        others = [np.column_stack((epoch, other.mean)) for other in drawn]
        axes.add_collection(LineCollection(others, colors=_OTHERS, linewidths=0.8), autolim=False)
        if reference is not None and reference is not curve:
            axes.plot(epoch, reference.mean, color=_REFERENCE, linewidth=1, linestyle="--")
        axes.fill_between(epoch, curve.low, curve.high, color=color, alpha=0.16, linewidth=0)
        axes.plot(epoch, curve.mean, color=color, linewidth=1.8, marker=marker)
    words = "line: mean over the seeds; band: their middle half; grey: the other schedules"
    if reference is not None:
        words += f"; dashed: {summary.reference}"
    figure.text(0.01, 0.08 / height, words, fontsize=8, color=SOFT, parse_math=False)
    return figure


def _map(results: Results) -> Figure:
    """Draws the mean validation metric of every setting, a map for each momentum and weight decay."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.patches import Rectangle

    summary = results.summary
    names = [row.schedule for row in summary.schedules]
    rates = sorted({setting.lr for setting in summary.settings})
    maps = planes(summary)
    worst, best = shade_range(summary)
    shades = LinearSegmentedColormap.from_list("shades", _SHADES if best >= worst else _SHADES[::-1])
    scale = Normalize(min(worst, best), max(worst, best), clip=True)
    chosen = {row.key for row in summary.schedules}
    figure = new_figure(max(5.5, 1.6 + len(maps) * (0.4 + 0.62 * len(rates))), 1.3 + 0.3 * len(names))
    _title(figure, f"Mean {results.validation_metric}, the chosen settings framed")
    for i, (plane, title) in enumerate(maps.items()):
        axes = figure.add_subplot(1, len(maps), i + 1)
        cells = {(s.schedule, s.lr): s for s in summary.settings if (s.momentum, s.weight_decay) == plane}
        values = np.full((len(names), len(rates)), np.nan)
        for (name, lr), setting in cells.items():
            if setting.validation is None:
                continue
            row, column = names.index(name), rates.index(lr)
            values[row, column] = setting.validation
            share = float(scale(setting.validation)) if best >= worst else 1 - float(scale(setting.validation))
            text = number(setting.validation, decimals(summary)) + "*" * bool(setting.diverged)
            ink = "white" if share > 0.7 else INK
            weight = "bold" if (name, lr, *plane) in chosen else "normal"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink, fontweight=weight)
            if (name, lr, *plane) in chosen:
                axes.add_patch(
                    Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=2, zorder=3)
                )
        axes.imshow(values, cmap=shades, norm=scale, aspect="auto")
        axes.set_xticks(range(len(rates)), [f"{lr:g}" for lr in rates])
        axes.set_yticks(
            range(len(names)),
            shortened_apart(names, 22) if i == 0 else [""] * len(names),
            parse_math=False,
        )
        axes.set_xticks(np.arange(0.5, len(rates) - 1), minor=True)
        axes.set_yticks(np.arange(0.5, len(names) - 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="both", length=0, labelsize=8, labelcolor=INK)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("peak rate", fontsize=8, color=SOFT)
        if title:
            axes.set_title(title, loc="left", fontsize=9, color=INK)
    if any(setting.diverged for setting in summary.settings):
        figure.supxlabel("* some runs diverged", x=0.01, ha="left", fontsize=8, color=SOFT)
    return figure

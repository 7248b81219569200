"""The picture of a forecast: losses with their intervals, and the same for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from lit_lrsched.forecasting.words import Row
from lit_lrsched.plans.figures import GRID, INK, SOFT, in_html, new_figure, plain
from lit_lrsched.schedules.drawing import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AHEAD, _BEHIND = "#0b63c5", "#4c5763"


def forest(rows: Sequence[Row], tied: Sequence[str], level: float, ax: Axes | None = None) -> tuple[Figure, Axes]:
    """Draws losses with their intervals, a line each.

    Args:
        rows: The rows, best first, all of one length.
        tied: The schedules that cannot be told from the best.
        level: The level of the intervals.
        ax: Where to draw; None for a figure of its own.
    """
    axes = ax or new_figure(8, 1.5 + 0.3 * len(rows)).add_subplot()
    figure = cast("Figure", axes.figure)
    plain(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.axvline(rows[0]["loss"], color=INK, linewidth=0.8, linestyle=":")
    for place, row in enumerate(rows):
        color = _AHEAD if row["schedule"] in tied else _BEHIND
        axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2)
        axes.plot(row["loss"], place, "o", color=color, markersize=5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    names = [f"{row['schedule']} at {row['lr']:g}" for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.tick_params(axis="y", labelcolor=INK)
    title = f"Forecast loss after {rows[0]['steps']:,} steps"
    words = f"each schedule at its best peak rate, with its {100 * level:g} % interval"
    words += "; blue: cannot be told from the best" if len(tied) > 1 else "; blue: the best"
    if ax is None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        figure.supxlabel(words, x=0.01, ha="left", fontsize=8, color=SOFT)
    else:
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        axes.set_xlabel(words, fontsize=8, color=SOFT)
    return Plot(figure, axes)


def picture_in_html(figure: Figure, answer: str, why: str) -> str:
    """Returns a verdict and a picture as HTML that loads nothing: the picture stands in it."""
    text = f"<p><b>{html.escape(answer)}</b></p><p>{html.escape(why)}</p>"
    return text + in_html(figure, "Forecast losses with their intervals")

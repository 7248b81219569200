"""A search as a picture: the loss against the rate, its band over the seeds, where it diverges, and three marks."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, cast

import numpy as np

from lit_lrsched.plans.figures import GRID, INK, SOFT, new_figure
from lit_lrsched.plans.figures import in_html as figure_in_html
from lit_lrsched.schedules.drawing import Plot
from lit_lrsched.search.judgement import Judgement
from lit_lrsched.search.rates import BoolArray, FloatArray
from lit_lrsched.search.trainings import Outcome
from lit_lrsched.search.words import sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINE, _BEST, _DIVERGED = "#0b63c5", "#5c6670", "#f6dcdc"
_MARKS = {"suggested": ("#117733", "-"), "largest safe": ("#b4530a", "--"), "best": (_BEST, "--")}


def draw(outcome: Outcome, found: Judgement, ax: Axes | None = None) -> tuple[Figure, Axes]:
    """Draws a search.

    Args:
        outcome: The losses.
        found: What they say.
        ax: Where to draw; None for a figure of its own, which pyplot does not hold.

    Returns:
        The figure and its axes.
    """
    axes = ax or _new_axes()
    lrs, losses, broken = outcome.lrs, outcome.losses, outcome.diverged
    start = float(np.nanmean(outcome.untrained[outcome.judged_by]))
    axes.set_xscale("log")
    axes.set_xlim(lrs[0] / 1.05, lrs[-1] * 1.05)
    kept = np.where(broken, np.nan, losses)
    axes.set_ylim(*_limits(kept, start, axes))
    unsafe: BoolArray = np.any(broken, axis=1)
    _shade(axes, lrs, unsafe)
    shown = ~unsafe
    axes.fill_between(
        lrs, kept.min(axis=1), kept.max(axis=1), where=shown, color=_LINE, alpha=0.15, linewidth=0, zorder=2
    )
    axes.plot(lrs, np.where(shown, kept.mean(axis=1), np.nan), ".-", color=_LINE, linewidth=1.6, zorder=3)
    axes.axhline(start, color=SOFT, linewidth=0.8, linestyle=":")
    axes.annotate(
        "untrained", (0.005, start), xycoords=("axes fraction", "data"), va="bottom", fontsize=7.5, color=SOFT
    )
    axes.axvspan(*found.interval, color=_BEST, alpha=0.13, linewidth=0, zorder=1)
    _mark(axes, found, lrs)
    axes.set_xlabel("peak learning rate", fontsize=9, color=SOFT)
    axes.set_ylabel(outcome.judged_by, fontsize=9, color=SOFT, parse_math=False)
    words = f"line: mean of {losses.shape[1]} seeds; band: all of them; grey: 95 % interval of the best"
    words += "; red: a seed diverged" * bool(broken.any())
    axes.set_title(words, loc="left", fontsize=8, color=SOFT)
    return Plot(cast("Figure", axes.figure), axes)


def in_html(outcome: Outcome, found: Judgement) -> str:
    """Returns the answer and the picture, as HTML that loads nothing: the picture stands in it."""
    about = f"{outcome.judged_by} against the learning rate"
    return f"<p><b>{escape(sentence(found, outcome.judged_by))}</b></p>{figure_in_html(draw(outcome, found)[0], about)}"


def _new_axes() -> Axes:
    axes = new_figure(8, 4.2).add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, labelsize=8, labelcolor=SOFT)
    axes.tick_params(labelcolor=INK)
    return axes


def _mark(axes: Axes, found: Judgement, lrs: FloatArray) -> None:
    """Draws the three marks, each with its name and its rate; the names of equal ones stand together."""
    marks: dict[float, str] = {}
    wanted = (("suggested", found.suggested), ("best", found.best), ("largest safe", found.largest_safe))
    for name, rate in wanted:
        marks[rate] = ", ".join(filter(None, (marks.get(rate), name)))
    for row, (rate, names) in enumerate(sorted(marks.items())):
        color, dashes = next((style for name, style in _MARKS.items() if name in names), _MARKS["best"])
        is_left = np.log(rate / lrs[0]) < 0.6 * np.log(lrs[-1] / lrs[0])
        axes.axvline(rate, color=color, linestyle=dashes, linewidth=1.4, zorder=2.5)
        axes.annotate(
            f"{names} {rate:.3g}",
            (rate, 0.97 - 0.06 * row),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            xytext=(4 if is_left else -4, 0),
            ha="left" if is_left else "right",
            va="top",
            fontsize=8.5,
            color=color,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            zorder=4,
        )


def _limits(kept: FloatArray, start: float, axes: Axes) -> tuple[float, float]:
    """Returns the range of losses to show: from the lowest to a little above that of the untrained module."""
    low = float(np.nanmin(kept))
    high = max(start, float(np.nanmin(np.nanmax(kept, axis=1, initial=-np.inf, where=np.isfinite(kept)))))
    if low > 0 and high > 3 * low:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return low * 0.9, high * (high / low) ** 0.15
    air = 0.08 * (high - low) or abs(high) * 0.1 or 1.0
    return low - air, high + 2 * air


def _shade(axes: Axes, lrs: FloatArray, unsafe: BoolArray) -> None:
    """Shades the rates at which a seed diverged, half of the way to their neighbours."""
    middles = np.sqrt(lrs[:-1] * lrs[1:])
    left, right = np.r_[lrs[0] / 1.05, middles], np.r_[middles, lrs[-1] * 1.05]
    for place in np.flatnonzero(unsafe):
        axes.axvspan(left[place], right[place], color=_DIVERGED, linewidth=0, zorder=0)

"""The picture of a forecast: losses with their intervals, and the same for a notebook."""

from __future__ import annotations

import html
import io
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from lit_lrsched.forecasting.words import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _SOFT, _GRID = "#1b1f24", "#5c6670", "#e6e8ea"
_AHEAD, _BEHIND = "#0b63c5", "#4c5763"
_DPI = 150


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
    axes.grid(axis="x", color=_GRID, linewidth=0.8)
    axes.axvline(rows[0]["loss"], color=_INK, linewidth=0.8, linestyle=":")
    for place, row in enumerate(rows):
        color = _AHEAD if row["schedule"] in tied else _BEHIND
        axes.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2)
        axes.plot(row["loss"], place, "o", color=color, markersize=5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    names = [f"{row['schedule']} at {row['lr']:g}" for row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.tick_params(axis="y", labelcolor=_INK)
    title = f"Forecast loss after {rows[0]['steps']:,} steps"
    words = f"each schedule at its best peak rate, with its {100 * level:g} % interval"
    words += "; blue: cannot be told from the best" if len(tied) > 1 else "; blue: the best"
    if ax is None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=_INK)
        figure.supxlabel(words, x=0.01, ha="left", fontsize=8, color=_SOFT)
    else:
        axes.set_title(title, loc="left", fontsize=9, color=_INK)
        axes.set_xlabel(words, fontsize=8, color=_SOFT)
    return figure, axes


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, which pyplot does not hold."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Takes away what is not data."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=_SOFT)


def save(figure: Figure, file: Path | BinaryIO) -> None:
    """Writes a figure, in the format that the file's name says; PNG by default."""
    figure.savefig(cast("Any", file))


def picture_in_html(figure: Figure, answer: str, why: str) -> str:
    """Returns a verdict and a picture as HTML that loads nothing: the picture stands in it."""
    file = io.BytesIO()
    save(figure, file)
    source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return (
        f"<p><b>{html.escape(answer)}</b></p><p>{html.escape(why)}</p>"
        f'<img alt="Forecast losses with their intervals" style="max-width: 100%; width: 50em" src="{source}">'
    )

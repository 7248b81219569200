"""Figures of matplotlib: without pyplot, in the one look of this package, and as files or within HTML."""

from __future__ import annotations

import io
import warnings
from base64 import b64encode
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, GRID = "#1b1f24", "#5c6670", "#e6e8ea"
_DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, its size in inches."""
    # Not pyplot, which keeps figures alive and has a backend for the whole process.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(width, height), dpi=_DPI, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.08)
    )
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Takes away what is not data."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=SOFT)


def save(figure: Figure, file: Path | BinaryIO) -> None:
    """Writes a figure, as SVG or PDF where the file's name says so, else as PNG."""
    # By their own canvases: `savefig` would draw twice, once for the layout alone.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas: Any
    with warnings.catch_warnings():
        # A name may have letters that the font lacks: it is drawn with boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if isinstance(file, Path) and file.suffix == ".svg":
            canvas = FigureCanvasSVG(figure)
            canvas.print_svg(file)
        elif isinstance(file, Path) and file.suffix == ".pdf":
            canvas = FigureCanvasPdf(figure)
            canvas.print_pdf(file)
        else:
            canvas = FigureCanvasAgg(figure)
            canvas.print_png(file, pil_kwargs={"compress_level": 3})  # the most takes as long as to draw


def in_html(figure: Figure, about: str, width: str = "50em") -> str:
    """Returns a figure as an element of HTML that loads nothing: the picture stands in it.

    Args:
        figure: The figure.
        about: What it shows, for those who do not see it.
        width: How wide it is where there is room.
    """
    file = io.BytesIO()
    save(figure, file)
    source = f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
    return f'<img alt="{escape(about, quote=True)}" style="max-width: 100%; width: {width}" src="{source}">'

"""The curve of a schedule, drawn: on matplotlib's axes, or as SVG for a notebook by the standard library alone."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple, cast

from lit_lrsched.schedules.spans import Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# A palette that colour-blind people can tell apart (Okabe and Ito 2008), in an order that sets neighbours apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F4FC9", "#5A5A5A")

_MOST_HELD = 60  # so few steps are drawn as stairs, as which they are used
_MOST_SHADED = 12
_WIDTH, _HEIGHT = 420, 120  # of the curve, in pixels
_LEFT, _TOP, _BELOW = 44, 8, 18  # the room for numbers


class Drawn(NamedTuple):
    """What there is to draw.

    Args:
        title: What the curve is called.
        steps: The steps that were sampled, in order.
        factors: The factor at each.
        spans: The named stretches.
        length: The number of steps in all.
        per_epoch: The steps in an epoch; None when it is unknown.
    """

    title: str
    steps: Sequence[int]
    factors: Sequence[float]
    spans: Sequence[Span]
    length: int
    per_epoch: int | None


class Plot(NamedTuple):
    """Figure and axes, as every ``plot`` returns them; at the end of a notebook's cell the picture is shown.

    Args:
        figure: The figure.
        axes: Its axes, to draw on.
    """

    figure: Figure
    axes: Axes

    def _repr_png_(self) -> bytes | None:
        if self.figure.canvas.manager is not None:  # pyplot holds this one, and shows it when the cell is done
            return None
        file = io.BytesIO()
        self.figure.savefig(file, format="png")
        return file.getvalue()


def steps_to_draw(length: int, spans: Iterable[Span], most: int) -> list[int]:
    """Returns every step of a short run, and of a long one evenly spread steps and those around the ends of spans.

    >>> steps_to_draw(10, [Span("up", 0, 5), Span("down", 5, 10)], most=4)
    [0, 3, 4, 5, 6, 9]
    """
    every = -(-length // most)
    if every == 1:
        return list(range(length))
    near = {step for span in spans for edge in (span.start, span.stop) for step in (edge - 1, edge)}
    return sorted({*range(0, length, every), *(step for step in near if 0 <= step < length), length - 1})


def plot(drawn: Drawn, ax: Axes | None) -> tuple[Figure, Axes]:
    """Draws on axes: on those of an earlier curve beside it, in the next colour and with a legend."""
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(7, 3), layout="constrained").add_subplot()
    scale = drawn.per_epoch or 1
    earlier = len(ax.lines)
    ax.plot(
        [step / scale for step in drawn.steps],
        drawn.factors,
        drawstyle="steps-post" if drawn.length <= _MOST_HELD else "default",
        color=COLOURS[earlier % len(COLOURS)],
        linewidth=1.8,
        label=drawn.title,
    )
    ax.set_xlabel("epoch" if drawn.per_epoch else "step")
    ax.set_ylabel("factor of the learning rate")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_ylim(0, max(1.08 * max(drawn.factors), ax.get_ylim()[1] if earlier else 0) or 1.0)
    ax.set_xlim(0, max(drawn.length / scale, ax.get_xlim()[1] if earlier else 0))
    if earlier:
        ax.set_title("", loc="left")
        ax.legend(frameon=False)
    else:
        ax.set_title(drawn.title, loc="left")
    return Plot(cast("Figure", ax.figure), ax)


def svg(drawn: Drawn) -> str:
    """Returns the picture as an SVG element. It takes the colour of the text around it, so it suits a dark page too."""
    top = max(drawn.factors) or 1.0

    def x(step: float) -> float:
        return _LEFT + _WIDTH * step / drawn.length

    def y(factor: float) -> float:
        return _TOP + _HEIGHT * (1 - factor / top)

    parts = []
    if 1 < len(drawn.spans) <= _MOST_SHADED:
        for number, (name, start, stop) in enumerate(drawn.spans):
            if number % 2 == 0:
                parts.append(
                    f'<rect x="{x(start):.1f}" y="{_TOP}" width="{x(stop) - x(start):.1f}" height="{_HEIGHT}" '
                    'fill="currentColor" opacity="0.07"/>'
                )
            if x(stop) - x(start) > 7 * len(name) + 4:
                middle = x((start + stop) / 2)
                parts.append(_text(middle, _TOP + _HEIGHT - 6, name, "middle", faint=True))
    base = _TOP + _HEIGHT
    parts.append(
        f'<path d="M{_LEFT} {_TOP}V{base}H{_LEFT + _WIDTH}" fill="none" stroke="currentColor" opacity="0.45"/>'
    )
    held = drawn.length <= _MOST_HELD
    line = f"M{x(0):.1f} {y(drawn.factors[0]):.1f}"
    for step, factor in zip(drawn.steps[1:], drawn.factors[1:], strict=True):
        line += f"H{x(step):.1f}V{y(factor):.1f}" if held else f"L{x(step):.1f} {y(factor):.1f}"
    line += f"H{x(drawn.length):.1f}" if held else ""
    parts.append(f'<path d="{line}" fill="none" stroke="currentColor" stroke-width="2" stroke-linejoin="round"/>')
    end = f"epoch {drawn.length / drawn.per_epoch:g}" if drawn.per_epoch else f"step {drawn.length:,}"
    parts += [
        _text(_LEFT - 5, _TOP + 8, f"{top:.3g}", "end"),
        _text(_LEFT - 5, base, "0", "end"),
        _text(_LEFT, base + 14, "0", "start"),
        _text(_LEFT + _WIDTH, base + 14, end, "end"),
    ]
    width, height = _LEFT + _WIDTH + 6, base + _BELOW
    return (
        f'<svg role="img" aria-label="{escape(drawn.title, quote=True)} over {drawn.length:,} steps" '
        f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'style="max-width: 100%; height: auto" font-family="sans-serif" font-size="11">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: str, anchor: str, faint: bool = False) -> str:
    opacity = ' opacity="0.65"' if faint else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"{opacity}>{escape(text)}</text>'

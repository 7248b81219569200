"""The page's cards: for every schedule a drawing of its metric and its learning rate over the epochs."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from lit_lrsched.comparison.evidence.runs import FloatArray
from lit_lrsched.comparison.report.markup import rank, schedule_name
from lit_lrsched.comparison.report.results import LearningCurve, Results, learning_curves, metric_range
from lit_lrsched.comparison.report.scale import Scale
from lit_lrsched.comparison.report.words import tuned_beside_rate

# A card's drawing, in its own units: the metric on top, the learning rate below.
_WIDTH, _METRIC, _GAP, _RATE, _FOOT = 180, 104, 20, 34, 13
_POINTS = 180  # the most of a line: one for each unit of width


def cards(results: Results) -> str:
    """Returns the section with a card a schedule."""
    summary = results.summary
    all_curves = learning_curves(results)
    drawn = [curve for curve in all_curves if len(curve.mean) and curve.schedule.mean is not None]
    scale = Scale.around(metric_range(drawn, summary.mode)) if drawn else None
    shared = ""
    if scale is not None:
        lines = "".join(_line("others", curve.mean, scale) for curve in drawn)
        dashed = next(
            (_line("reference", c.mean, scale) for c in drawn if c.schedule.schedule == summary.reference), ""
        )
        # Drawn once, used by every card.
        groups = f'<g id="others">{lines}</g><g id="reference">{dashed}</g>'
        shared = f'<svg class="hidden" aria-hidden="true"><defs>{groups}</defs></svg>'
    drawings = "".join(_card(curve, results, scale if curve in drawn else None) for curve in all_curves)
    key = [
        ("mean over the seeds", '<polyline class="s-mean" points="0,5 26,5"/>'),
        ("middle half of the seeds", '<polygon class="s-band" points="0,0 26,0 26,10 0,10"/>'),
        ("the other schedules", '<polyline class="s-others" points="0,5 26,5"/>'),
    ]
    if summary.reference is not None:
        key.append((summary.reference, '<polyline class="s-reference" points="0,5 26,5"/>'))
    items = "".join(f'<li><svg viewBox="0 0 26 10">{mark}</svg>{escape(name)}</li>' for name, mark in key)
    return f"""<section>
<h2>How each one trained</h2>
<p class="about">{escape(results.validation_metric)} after each epoch, all on one scale, and below it the learning rate,
each from 0 to its own highest.</p>
<ul class="key">{items}</ul>
{shared}
<div class="cards">{drawings}</div>
</section>
"""


def _card(curve: LearningCurve, results: Results, scale: Scale | None) -> str:
    row, summary = curve.schedule, results.summary
    parts = []
    if scale is not None:
        for x in scale.ticks:
            y = _METRIC * (1 - scale.share(x))
            parts.append(f'<line class="s-grid" x1="0" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        # A drawing inside a drawing cuts off what leaves it.
        inner = '<use href="#others"/>'
        if row.schedule != summary.reference:
            inner += '<use href="#reference"/>'
        inner += _area("band", curve.low, curve.high, scale) + _line("mean", curve.mean, scale)
        parts.append(f'<svg width="{_WIDTH}" height="{_METRIC}">{inner}</svg>')
        for x in scale.ticks:
            y = _METRIC * (1 - scale.share(x))
            parts.append(f'<text x="0" y="{y - 2.5:.1f}">{scale.label(x)}</text>')
    else:
        reason = "every run diverged" if row.mean is None else f"no curve of {results.validation_metric}"
        parts.append(f'<text x="{_WIDTH / 2}" y="{_METRIC / 2}" text-anchor="middle">{escape(reason)}</text>')
    highest = float(curve.rates.max())
    rates = Scale(0.0, highest or 1.0)
    top = _METRIC + _GAP
    drawing = _area("under", np.zeros_like(curve.rates), curve.rates, rates, _RATE) + _line(
        "rate", curve.rates, rates, _RATE
    )
    bottom = top + _RATE
    parts.append(f'<svg y="{top}" width="{_WIDTH}" height="{_RATE}" overflow="visible">{drawing}</svg>')
    parts.append(f'<text x="0" y="{top - 5}">learning rate up to {highest:.3g}</text>')
    parts.append(f'<line class="s-grid" x1="0" x2="{_WIDTH}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text x="0" y="{bottom + 11}">epoch 1</text>')
    parts.append(f'<text x="{_WIDTH}" y="{bottom + 11}" text-anchor="end">{results.epochs}</text>')
    setting = f"peak {row.lr:g}"
    for field, words in tuned_beside_rate(summary).items():
        setting += f", {words} {getattr(row, field):g}"
    label = escape(f"{row.schedule}: {results.validation_metric} and learning rate against epoch")
    box = f"0 -12 {_WIDTH} {bottom + _FOOT + 12}"
    return (
        f'<figure class="panel card {rank(row, summary)}"><h3>{schedule_name(row.schedule)}</h3><p>{setting}</p>'
        f'<svg viewBox="{box}" role="img" aria-label="{label}">{"".join(parts)}</svg></figure>\n'
    )


def _line(name: str, values: FloatArray, scale: Scale, height: int = _METRIC) -> str:
    return f'<polyline class="s-{name}" points="{" ".join(_points(values, scale, height))}"/>'


def _area(name: str, low: FloatArray, high: FloatArray, scale: Scale, height: int = _METRIC) -> str:
    outline = [*_points(low, scale, height), *reversed(list(_points(high, scale, height)))]
    return f'<polygon class="s-{name}" points="{" ".join(outline)}"/>'


def _points(values: FloatArray, scale: Scale, height: int) -> Iterable[str]:
    last = max(1, len(values) - 1)
    places = np.unique(np.linspace(0, len(values) - 1, min(len(values), _POINTS)).round().astype(int))
    for place in places:
        # Kept near the drawing: a loss of 1e30 is no coordinate.
        share = min(3.0, max(-2.0, scale.share(float(values[place]))))
        yield f"{_WIDTH * place / last:.1f},{height * (1 - share):.1f}"
    if len(values) == 1:
        yield f"{_WIDTH},{height * (1 - share):.1f}"

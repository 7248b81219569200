"""The page's cards: for every schedule a drawing of its metric and its learning rate over the epochs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

import numpy as np
import numpy.typing as npt

from lit_lrsched.comparison.evidence.runs import FloatArray
from lit_lrsched.comparison.report.markup import rank, schedule_name
from lit_lrsched.comparison.report.results import LearningCurve, Results, metric_range
from lit_lrsched.comparison.report.scale import Scale
from lit_lrsched.comparison.report.words import counted, decimals, tuned_beside_rate
from lit_lrsched.plans.numbers import number

# A card's drawing, in its own units: the metric on top, the learning rate below.
_WIDTH, _METRIC, _GAP, _RATE, _FOOT = 180, 104, 20, 34, 13
_LEFT = 36  # for the labels of the metric, beside the curves
_POINTS = 180  # the most of a line: one for each unit of width


def cards(results: Results) -> str:
    """Returns the section with a card a schedule."""
    summary = results.summary
    all_curves = results.curves
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
<p class="about">{escape(results.validation_metric)} after each epoch, all on one scale, and below it the learning rate
as it begins, each from 0 to its own highest. The pointer, or the arrow keys on a drawing, read the values.</p>
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
            parts.append(f'<text x="-5" y="{y + 3.5:.1f}" text-anchor="end">{scale.label(x)}</text>')
    else:
        reason = "every run diverged" if row.mean is None else f"no curve of {results.validation_metric}"
        parts.append(f'<text x="{_WIDTH / 2}" y="{_METRIC / 2}" text-anchor="middle">{escape(reason)}</text>')
    top, bottom = _METRIC + _GAP, _METRIC + _GAP + _RATE
    about, told = "every run broke off: no rates", ""
    if len(curve.rates):
        highest = float(curve.rates.max())
        rates = Scale(0.0, highest or 1.0)
        used = np.append(curve.rates, curve.rates[-1])  # each from its epoch's start to the next one's
        drawing = _area("under", np.zeros_like(used), used, rates, _RATE, first=0)
        drawing += _line("rate", used, rates, _RATE, first=0)
        parts.append(f'<svg y="{top}" width="{_WIDTH}" height="{_RATE}" overflow="visible">{drawing}</svg>')
        about = f"epochs begin at rates up to {highest:.3g}"
        told = f' data-width="{_WIDTH}" data-height="{bottom}" data-curves="{escape(_told(curve, results))}"'
    parts.append(f'<text x="0" y="{top - 5}">{about}</text>')
    parts.append(f'<line class="s-grid" x1="0" x2="{_WIDTH}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(f'<text x="0" y="{bottom + 11}">epoch 0</text>')
    parts.append(f'<text x="{_WIDTH}" y="{bottom + 11}" text-anchor="end">{results.epochs}</text>')
    setting = f"peak {row.lr:g}"
    for field, words in tuned_beside_rate(summary).items():
        setting += f", {words} {getattr(row, field):g}"
    label = escape(f"{row.schedule}: {results.validation_metric} and learning rate against epoch")
    box = f"{-_LEFT} -12 {_LEFT + _WIDTH + 8} {bottom + _FOOT + 12}"
    return (
        f'<figure class="panel card {rank(row, summary)}"{told}><h3>{schedule_name(row.schedule)}</h3>'
        f'<p class="readout">{setting}</p>'
        f'<svg viewBox="{box}" role="img" aria-label="{label}">{"".join(parts)}</svg></figure>\n'
    )


def _told(curve: LearningCurve, results: Results) -> str:
    """Returns what the pointer is told over a card, as JSON: times in epochs, and what was so at each, in words."""
    places = decimals(results.summary)
    times = [0, *(int(place) + 1 for place in _drawn(len(curve.rates)))]
    words = []
    for time in times:
        text = f"after {counted(time, 'epoch')}: " if time else "at the start: "
        if 0 < time <= len(curve.mean):
            mean, low, high = (number(float(part[time - 1]), places) for part in (curve.mean, curve.low, curve.high))
            text += f"{mean} ({low} to {high}), "
        words.append(f"{text}rate {curve.rates[min(time, len(curve.rates) - 1)]:.3g}")
    return json.dumps({"at": times, "words": words})


def _drawn(count: int) -> npt.NDArray[np.int_]:
    """Returns which of so many values a line shows."""
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int))


def _line(name: str, values: FloatArray, scale: Scale, height: int = _METRIC, first: int = 1) -> str:
    return f'<polyline class="s-{name}" points="{" ".join(_points(values, scale, height, first))}"/>'


def _area(name: str, low: FloatArray, high: FloatArray, scale: Scale, height: int = _METRIC, first: int = 1) -> str:
    outline = [*_points(low, scale, height, first), *reversed(list(_points(high, scale, height, first)))]
    return f'<polygon class="s-{name}" points="{" ".join(outline)}"/>'


def _points(values: FloatArray, scale: Scale, height: int, first: int) -> Iterable[str]:
    """Yields the points of a line; its first value is that after ``first`` epochs."""
    last = len(values) - 1 + first
    if last == first:
        values, first = np.repeat(values, 2), 0  # one value is a line too
    for place in _drawn(len(values)):
        # Kept near the drawing: a loss of 1e30 is no coordinate.
        share = min(3.0, max(-2.0, scale.share(float(values[place]))))
        yield f"{_WIDTH * (place + first) / last:.1f},{height * (1 - share):.1f}"

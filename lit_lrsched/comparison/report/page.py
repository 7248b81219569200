"""The comparison as one page of HTML: on its own, for a phone and a desktop, by day and by night.

Text and tables are HTML, so that they keep their size on every screen; the curves are small drawings, one a schedule,
that a grid arranges. Nothing is fetched from anywhere. A script sorts the table, reads values off the drawings and
copies the methods; without it everything is there to be read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from lit_lrsched.comparison.evidence.significance import Difference
from lit_lrsched.comparison.evidence.summary import ScheduleSummary, Setting, Summary
from lit_lrsched.comparison.evidence.verdict import edges, overlap_in_words, verdict
from lit_lrsched.comparison.report.cards import cards
from lit_lrsched.comparison.report.markup import rank, schedule_name
from lit_lrsched.comparison.report.methods import how
from lit_lrsched.comparison.report.results import Results, shade_range, transferred
from lit_lrsched.comparison.report.rounds import rounds
from lit_lrsched.comparison.report.scale import Scale
from lit_lrsched.comparison.report.words import (
    counted,
    decimals,
    difference_interval,
    interval,
    p_in_words,
    percent,
    planes,
    probability,
    tuned_beside_rate,
)
from lit_lrsched.plans.numbers import NOTHING, number
from lit_lrsched.theory.bound import TRANSFER_HELD

_TIMES = " \N{MULTIPLICATION SIGN} "


def page(results: Results, pictures: Sequence[str] = ()) -> str:
    """Returns the page.

    Args:
        results: The race.
        pictures: The names of the pictures beside it.
    """
    summary = results.summary
    first, second = verdict(summary)
    style, script = (Path(__file__).with_name(f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    sections = [_behind(summary), _numbers(results), cards(results), _maps(results), rounds(summary), _tuning(results)]
    sections.append(how(results))
    links = ", ".join(f'<a href="{file}">{file}</a>' for file in ("results.csv", "summary.json", *pictures))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{allowed}">
<link rel="icon" href="data:,">
<title>{escape(first)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">Learning-rate schedules · {escape(results.model)} · {escape(results.data)}</p>
<h1>{escape(first)}</h1>
<p class="lead">{escape(second)}</p>
<p class="facts">{escape(_facts(results))}</p>
{"".join(f'<p class="note">{escape(sentence)}</p>' for sentence in _notes(summary))}
</header>
{"".join(sections)}
<footer>Beside this page: {links}, curves.npz (every epoch of every run), and tensorboard/ for
<code>tensorboard --logdir</code>.</footer>
</main>
<script>{script}</script>
</body>
</html>
"""


def _notes(summary: Summary) -> list[str]:
    overlap = overlap_in_words(summary)
    return [*([overlap] if overlap else []), *edges(summary)]


def _facts(results: Results) -> str:
    settings = results.summary.settings
    counts = [
        counted(len(results.summary.schedules), "schedule"),
        counted(len({setting.lr for setting in settings}), "peak rate"),
        counted(len({setting.momentum for setting in settings}), "momentum", "momenta"),
        *([counted(decays, "weight decay")] if (decays := len({s.weight_decay for s in settings})) > 1 else []),
        counted(len(results.summary.seeds), "seed"),
    ]
    runs = counted(len(results.records), "training")
    if results.summary.spending is not None:
        counts[-1] = f"up to {counts[-1]}"
    return f"{runs} of {counted(results.epochs, 'epoch')}: {_TIMES.join(counts)}"


# --- How far behind: the paired difference from the best, with its interval ------------------------------------------


def _behind(summary: Summary) -> str:
    rows = [row for row in summary.schedules if row.mean is not None]
    if len(rows) < 2:
        return ""
    places = decimals(summary)
    ends = [x for row in rows if (d := row.against_best) for x in (d.gain, d.low, d.high) if x is not None]
    scale = Scale.around([0.0, *ends])
    lines = "".join(f'<i class="tick" style="left:{scale.percent(x)}"></i>' for x in scale.ticks)
    lines += f'<i class="zero" style="left:{scale.percent(0.0)}"></i>'
    drawn = []
    for row in rows:
        marks, difference = "", row.against_best
        if difference is not None and difference.low is not None and difference.high is not None:
            width = scale.share(difference.high) - scale.share(difference.low)
            marks = f'<i class="interval" style="left:{scale.percent(difference.low)};width:{100 * width:.2f}%"></i>'
        marks += f'<i class="mean" style="left:{scale.percent(difference.gain if difference else 0.0)}"></i>'
        said = f"{row.schedule}: {_read(difference, places)}"
        drawn.append(
            f'<div class="row {rank(row, summary)}" title="{escape(said)}">'
            f'<span class="name">{schedule_name(row.schedule)}</span>'
            f'<span class="track">{lines}{marks}</span><span class="value">{number(row.mean, places)}</span></div>'
        )
    labels = "".join(f'<span style="left:{scale.percent(x)}">{scale.label(x)}</span>' for x in scale.ticks)
    metric, best = escape(summary.metric), escape(str(summary.best))
    about = f"Difference of {metric} from {best} on test data, seed by seed: left of 0 is worse"
    if any(row.against_best and row.against_best.low is not None for row in rows):
        about += (
            f". Bars: {percent(summary)} intervals that hold for all at once, the pick of the best included; one that "
            "crosses 0 belongs to a schedule that cannot be told from the best"
        )
    about += ". Right: the mean."
    return f"""<section>
<h2>How far behind the best</h2>
<p class="about">{about}</p>
<figure class="panel ahead">{"".join(drawn)}
<div class="row" aria-hidden="true"><span></span><span class="axis">{labels}</span><span></span></div></figure>
</section>
"""


def _read(difference: Difference | None, places: int) -> str:
    if difference is None:
        return "the best"
    gain = number(difference.gain, places + 1, sign=True)
    if difference.low is None or difference.high is None:
        return gain
    low, high = (number(end, places + 1, sign=True) for end in (difference.low, difference.high))
    return f"{gain}, {low} to {high}"


# --- The table --------------------------------------------------------------------------------------------------------


def _numbers(results: Results) -> str:
    summary, theory = results.summary, transferred(results)
    places = decimals(summary)
    axes = tuned_beside_rate(summary)
    resplit = any(row.against_best and row.against_best.resplit for row in summary.schedules)
    reference = None if summary.reference is None else escape(summary.reference)
    level = percent(summary)
    upper = [
        '<th rowspan="2" scope="col" class="name" data-column="0">schedule</th>',
        f'<th colspan="3" scope="colgroup">{escape(summary.metric)} on test data</th>',
        f'<th colspan="{2 + bool(theory) + len(axes)}" scope="colgroup" class="group">chosen setting</th>',
        f'<th colspan="{4 + resplit}" scope="colgroup" class="group">against the best</th>',
    ]
    lower = [
        "mean",
        f"{level}<br>interval",
        "worst<br>(seed)",
        "peak<br>rate",
        *["in<br>theory"] * bool(theory),
        *(words.replace(" ", "<br>") for words in axes.values()),
        "diverged",
    ]
    lower += ["difference", f"{level}<br>interval", "p", *["p, new<br>rows"] * resplit, "more<br>seeds"]
    starts = {3, 5 + bool(theory) + len(axes)}
    if reference is not None:
        upper.append(f'<th colspan="2" scope="colgroup" class="group">against {reference}</th>')
        starts.add(len(lower))
        lower += ["difference", "p"]
    if summary.target is not None:
        upper.append('<th scope="colgroup" class="group"></th>')
        starts.add(len(lower))
        lower.append(f"epochs to<br>{number(summary.target, places)}")

    def line(row: ScheduleSummary) -> str:
        worst = number(row.worst, places)
        if row.worst is not None:
            worst += f" <small>({row.worst_seed})</small>"
        rate = f"{row.lr:g}" + ("" if row.edge is None else f'<span class="chip">{row.edge}</span>')
        cells = [number(row.mean, places), interval(row, places), worst, rate]
        if theory is not None:
            cells.append(f"{theory[1][row.schedule]:.2g}" if row.schedule in theory[1] else NOTHING)
        cells += [f"{getattr(row, field):g}" for field in axes]
        cells.append(str(row.diverged))
        cells += _difference(row.against_best, places)
        cells.insert(-1, difference_interval(row.against_best, places))
        if resplit:
            cells.append(_resplit(row.against_best))
        cells.append(_more_seeds(row.against_best))
        if reference is not None:
            cells += _difference(row.against_reference, places)
        if summary.target is not None:
            cells.append(NOTHING if row.epochs_to_target is None else str(row.epochs_to_target))
        drawn = "".join(f"<td{_group(i in starts)}>{cell}</td>" for i, cell in enumerate(cells))
        return f'<tr class="{rank(row, summary)}">{_head(row)}{drawn}</tr>\n'

    heads = "".join(
        f'<th scope="col" data-column="{i + 1}"{_group(i in starts)}>{title}</th>' for i, title in enumerate(lower)
    )
    about = (
        f"{summary.metric}: {'higher' if summary.mode == 'max' else 'lower'} is better. Differences are positive when "
        "the schedule is better. Interval and p against the best are corrected for all schedules and for having picked "
        "the best (max-T)"
    )
    if reference is not None:
        about += f"; the p against {reference} for all schedules"
    if resplit:
        about += ". P, new rows: the same with the overlap of the splits allowed for"
    about += (
        ". More seeds: how many should tell the two apart, were the difference really this one; a dash where luck "
        "alone often gives as much."
    )
    if theory is not None:
        about += (
            f" In theory: the peak rate that a convex bound puts in place of {escape(theory[0])}'s chosen one. "
            f"The ratio held {TRANSFER_HELD}."
        )
    if summary.target is not None and reference is not None:
        about += f" Epochs to {number(summary.target, places)}: when the mean validation curve gets there."
    return f"""<section>
<h2>The numbers</h2>
<p class="about">{about}</p>
<div class="panel scroll" tabindex="0" role="region" aria-label="The numbers"><table class="sortable">
<thead><tr>{"".join(upper)}</tr>
<tr>{heads}</tr></thead>
<tbody>
{"".join(map(line, summary.schedules))}</tbody></table></div>
</section>
"""


def _head(row: ScheduleSummary) -> str:
    return f'<th scope="row" class="name"><span>{schedule_name(row.schedule)}</span></th>'


def _group(starts: bool) -> str:
    return ' class="group"' if starts else ""


def _difference(difference: Difference | None, places: int) -> list[str]:
    if difference is None:
        return [NOTHING, NOTHING]
    return [number(difference.gain, places + 1, sign=True), escape(probability(difference))]


def _resplit(difference: Difference | None) -> str:
    return NOTHING if difference is None or difference.resplit is None else escape(p_in_words(difference.resplit.p))


def _more_seeds(difference: Difference | None) -> str:
    return NOTHING if difference is None or difference.more_seeds is None else f"{difference.more_seeds:,}"


# --- The rate x schedule map ------------------------------------------------------------------------------------------


def _maps(results: Results) -> str:
    summary = results.summary
    if summary.best is None:
        return ""
    worst, best = shade_range(summary)
    places = decimals(summary)
    chosen = {row.key for row in summary.schedules}
    cells = {setting.key: setting for setting in summary.settings}
    rates = sorted({setting.lr for setting in summary.settings})

    def cell(setting: Setting | None) -> str:
        if setting is None or setting.validation is None:
            return f'<td class="none">{NOTHING}</td>'
        share = min(1.0, max(0.0, (setting.validation - worst) / (best - worst))) if best != worst else 1.0
        # Where black and white ink are equally legible differs between day and night. Between the two black has a
        # contrast of 4.5 by both: "mid".
        marks = ["high" if share > 0.755 else "mid" if share > 0.58 else "low", *["chosen"] * (setting.key in chosen)]
        lost = f"<small>{setting.diverged} div.</small>" if setting.diverged else ""
        said = f"{setting.schedule} at {setting.lr:g}: {number(setting.validation, places + 2)}"
        return (
            f'<td class="{" ".join(marks)}" style="--t:{share:.2f}" title="{escape(said)}">'
            f"{number(setting.validation, places)}{lost}</td>"
        )

    maps = []
    for plane, title in planes(summary).items():
        heads = "".join(f'<th scope="col">{lr:g}</th>' for lr in rates)
        lines = "".join(
            f"<tr>{_head(row)}" + "".join(cell(cells.get((row.schedule, lr, *plane))) for lr in rates) + "</tr>\n"
            for row in summary.schedules
        )
        caption = f"<figcaption>{title or 'all rates'}</figcaption>"
        maps.append(
            f'<figure class="panel map">{caption}<div class="scroll" tabindex="0" role="region" '
            f'aria-label="Every rate, {title or "all rates"}"><table>'
            f'<thead><tr><th scope="col" class="name">peak rate</th>{heads}</tr></thead>\n'
            f"<tbody>\n{lines}</tbody></table></div></figure>\n"
        )
    lost = "; div.: runs that diverged" if any(setting.diverged for setting in summary.settings) else ""
    way = "higher is better" if summary.mode == "max" else "lower is better"
    shades = f'{number(worst, places)} or worse<span class="heat"></span>{number(best, places)}'
    return f"""<section>
<h2>Every rate that was tried</h2>
<p class="about">Mean {escape(results.validation_metric)} on validation data over the seeds ({way}){lost}.</p>
<ul class="key"><li>{shades}</li><li><span class="box"></span>chosen</li></ul>
<div class="maps">{"".join(maps)}</div>
</section>
"""


# --- What tuning brings -----------------------------------------------------------------------------------------------


def _tuning(results: Results) -> str:
    if results.gain is None:
        return ""
    return f"""<section>
<h2>What tuning brings</h2>
<p class="about">{escape(str(results.gain))} This says nothing about which schedule is better: rate and momentum changed
along with it.</p>
</section>
"""

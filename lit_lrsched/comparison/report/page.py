"""The comparison as one page of HTML: on its own, without scripts, for a phone and a desktop, by day and by night.

Text and tables are HTML, so that they keep their size on every screen; the curves are small drawings, one a schedule,
that a grid arranges. Nothing is fetched from anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from lit_lrsched.comparison.evidence.significance import Difference
from lit_lrsched.comparison.evidence.summary import ScheduleSummary, Setting, Summary
from lit_lrsched.comparison.evidence.verdict import edges, overlap_in_words, verdict
from lit_lrsched.comparison.report.cards import cards
from lit_lrsched.comparison.report.markup import rank, schedule_name
from lit_lrsched.comparison.report.results import Results, shade_range, transferred
from lit_lrsched.comparison.report.rounds import rounds
from lit_lrsched.comparison.report.scale import Scale
from lit_lrsched.comparison.report.words import (
    NOTHING,
    decimals,
    difference_interval,
    interval,
    number,
    p_in_words,
    planes,
    probability,
    tuned_beside_rate,
)
from lit_lrsched.theory.bound import TRANSFER_HELD

_TIMES = " \N{MULTIPLICATION SIGN} "


def page(results: Results) -> str:
    """Returns the page.

    Args:
        results: The race.
    """
    summary = results.summary
    first, second = verdict(summary)
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    sections = [_behind(summary), _numbers(results), cards(results), _maps(results), rounds(summary), _tuning(results)]
    sections.append(_how(results))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
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
<footer>Beside this page: results.csv (a row a run), curves.npz (every epoch of every run), summary.json, the pictures
as PNG, and tensorboard/ for <code>tensorboard --logdir</code>.</footer>
</main>
</body>
</html>
"""


def _notes(summary: Summary) -> list[str]:
    overlap = overlap_in_words(summary)
    return [*([overlap] if overlap else []), *edges(summary)]


def _facts(results: Results) -> str:
    settings = results.summary.settings
    counts = [
        _count(len(results.summary.schedules), "schedule"),
        _count(len({setting.lr for setting in settings}), "peak rate"),
        _count(len({setting.momentum for setting in settings}), "momentum", "momenta"),
        *([_count(decays, "weight decay")] if (decays := len({s.weight_decay for s in settings})) > 1 else []),
        _count(len(results.summary.seeds), "seed"),
    ]
    runs = _count(len(results.records), "training")
    if results.summary.spending is not None:
        counts[-1] = f"up to {counts[-1]}"
    return f"{runs} of {_count(results.epochs, 'epoch')}: {_TIMES.join(counts)}"


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


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
        drawn.append(
            f'<div class="row {rank(row, summary)}"><span class="name">{schedule_name(row.schedule)}</span>'
            f'<span class="track">{lines}{marks}</span><span class="value">{number(row.mean, places)}</span></div>'
        )
    labels = "".join(f'<span style="left:{scale.percent(x)}">{scale.label(x)}</span>' for x in scale.ticks)
    metric, best = escape(summary.metric), escape(str(summary.best))
    about = f"Difference of {metric} from {best} on test data, seed by seed: left of 0 is worse"
    if any(row.against_best and row.against_best.low is not None for row in rows):
        about += (
            f". Bars: {_percent(summary)} intervals that hold for all at once, the pick of the best included; one that "
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


# --- The table --------------------------------------------------------------------------------------------------------


def _numbers(results: Results) -> str:
    summary, theory = results.summary, transferred(results)
    places = decimals(summary)
    axes = tuned_beside_rate(summary)
    resplit = any(row.against_best and row.against_best.resplit for row in summary.schedules)
    reference = None if summary.reference is None else escape(summary.reference)
    level = _percent(summary)
    upper = [
        '<th rowspan="2" scope="col" class="name">schedule</th>',
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

    heads = "".join(f'<th scope="col"{_group(i in starts)}>{title}</th>' for i, title in enumerate(lower))
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
<div class="panel scroll" tabindex="0"><table>
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
    chosen = {(row.schedule, row.lr, row.momentum, row.weight_decay) for row in summary.schedules}
    cells = {(s.schedule, s.lr, s.momentum, s.weight_decay): s for s in summary.settings}
    rates = sorted({setting.lr for setting in summary.settings})

    def cell(setting: Setting | None) -> str:
        if setting is None or setting.validation is None:
            return f'<td class="none">{NOTHING}</td>'
        share = min(1.0, max(0.0, (setting.validation - worst) / (best - worst))) if best != worst else 1.0
        # Where black and white ink are equally legible differs between day and night: between the two, "mid".
        marks = ["high" if share > 0.72 else "mid" if share > 0.58 else "low"] + ["chosen"] * (
            (setting.schedule, setting.lr, setting.momentum, setting.weight_decay) in chosen
        )
        lost = f"<small>{setting.diverged} div.</small>" if setting.diverged else ""
        return f'<td class="{" ".join(marks)}" style="--t:{share:.2f}">{number(setting.validation, places)}{lost}</td>'

    maps = []
    for plane, title in planes(summary).items():
        heads = "".join(f'<th scope="col">{lr:g}</th>' for lr in rates)
        lines = "".join(
            f"<tr>{_head(row)}" + "".join(cell(cells.get((row.schedule, lr, *plane))) for lr in rates) + "</tr>\n"
            for row in summary.schedules
        )
        caption = f"<figcaption>{title or 'all rates'}</figcaption>"
        maps.append(
            f'<figure class="panel map">{caption}<div class="scroll" tabindex="0"><table>'
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


# --- How it was done --------------------------------------------------------------------------------------------------


def _how(results: Results) -> str:
    sentences = [*_design(results), *_judgement(results), *_execution(results)]
    return f"""<section>
<h2>How this was done</h2>
<ul class="how">{"".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)}</ul>
</section>
"""


def _design(results: Results) -> list[str]:
    settings = results.summary.settings
    momenta = sorted({setting.momentum for setting in settings})
    tried = f"at the same peak rates ({', '.join(f'{lr:g}' for lr in sorted({s.lr for s in settings}))})"
    if len(momenta) > 1:
        tried += f" and momenta ({', '.join(f'{momentum:g}' for momentum in momenta)})"
    if len(decays := sorted({setting.weight_decay for setting in settings})) > 1:
        tried += f" and weight decays ({', '.join(f'{decay:g}' for decay in decays)})"
    seeds, length = _seeds(results.summary.seeds), _count(results.epochs, "epoch")
    if results.summary.spending is not None:
        seeds = f"up to {len(results.summary.seeds)} seeds, more where the answer was open"
    return [
        f"Every schedule was trained {tried}, with {seeds}, for {length} with {results.optimizer}.",
        "Runs with the same seed share the split, the initial weights and the batch order, so schedules are compared "
        "in pairs.",
    ]


def _judgement(results: Results) -> list[str]:
    summary, chooser = results.summary, results.validation_metric
    if chooser == summary.metric:
        judged = f"{chooser} chose each schedule's rate and judges it as well, which flatters every schedule a little."
    else:
        *others, last = ["rate", *tuned_beside_rate(summary).values()]
        tuned = f"{', '.join(others)} and {last}" if others else last
        judged = (
            f"Validation data ({chooser}) chose each schedule's {tuned}; test data ({summary.metric}) judged it there "
            "and chose nothing."
        )
    if len(summary.seeds) > 1:
        against = "the best" if summary.reference is None else f"the best and against {summary.reference}"
        tests = (
            f"Intervals of a mean are BCa bootstrap intervals of {_percent(summary)}. Each p is that of a paired "
            f"sign-flip permutation test against {against}, corrected by a step-down max-T so that the chance of "
            f"declaring any difference where there is none is at most {100 * summary.alpha:g} % for each such "
            "question. The interval of a difference excludes 0 exactly when its p says that there is one."
        )
    else:
        tests = "One seed shows no spread: there are no intervals and no tests."
    if summary.spending is not None:
        tests += (
            " The race was judged at looks laid down before the first; each has its share of the "
            f"{100 * summary.alpha:g} %, and every p and interval allows for the others. A schedule that left is shown "
            "at the look at which it left, over the seeds that it had had."
        )
    diverged = sum(setting.diverged for setting in summary.settings)
    lost = "No run diverged."
    if diverged:
        lost = (
            f"{diverged:,} of {_count(len(results.records), 'run')} diverged. Such a run is never dropped: it counts "
            "as the worst value that any other run showed after any epoch."
        )
    return [judged, tests, lost]


def _execution(results: Results) -> list[str]:
    if results.trained:
        speed = f"{results.seconds:.3g} s, {results.trainings_per_second:.3g} trainings a second"
        took = f"Training {_count(results.trained, 'run')} took {speed}, on {results.machine}."
    else:
        took = "All runs were there already: nothing had to be trained."
    return [
        "The numbers speak about these data, over the seeds' splits, initial weights and batch orders. They are no "
        "claim about other data.",
        f"Engine: {results.engine} ({results.reason}). {took}",
    ]


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"the seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"the same {len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"
    return f"the same {len(seeds)} seeds"


def _percent(summary: Summary) -> str:
    return f"{100 * (1 - summary.alpha):g} %"

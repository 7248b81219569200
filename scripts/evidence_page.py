"""The evidence page: its words, tables and pictures, and the part of the README that shows it."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from evidence_over_tasks import Evidence, percent
from evidence_statistics import interval, performance_profile, with_other_seeds

from lit_lrsched.plans.figures import GRID, INK, SOFT, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_AHEAD, _BEHIND = "#0b63c5", "#8a949e"
_COLORS = ("#0b63c5", "#b4530a")
_COLUMNS = (
    *("less error", "these tasks", "such tasks", "beats Constant", "first"),
    *("p vs best", "p vs Constant", "tied on", "peak"),
)
_README = re.compile(r"(<!-- evidence -->\n).*?(<!-- /evidence -->)", re.DOTALL)


def part_of_readme(evidence: Evidence, readme: str) -> str:
    """Returns the README with the answer and the picture in their place."""
    tasks, schedules = len(evidence.raced), len(evidence.schedules)
    text = (
        f"And in general? {schedules} schedules raced on {tasks} small tasks, each tuned on validation data and judged "
        f"on test data. {evidence.answer} [Evidence](docs/evidence.md) has every task, and the limits."
    )
    picture = "![What schedules bring over a constant rate](docs/img/evidence.png)"
    return _README.sub(lambda match: f"{match[1]}{_wrapped(text)}\n\n{picture}\n{match[2]}", readme)


def page(evidence: Evidence) -> str:
    """Returns the page."""
    results = [each.race.results for each in evidence.raced]
    return _filled(f"""\
# Evidence

Which schedule should one try first? `python scripts/evidence.py` races {len(evidence.schedules)} of the catalogue on
{len(evidence.raced)} small tasks with the package's own `compare`, and writes this page.

{evidence.answer}

![What schedules bring over a constant rate](img/evidence.png)

What it cannot say: these are small models, trained for seconds, for a number of epochs that is known beforehand.
Several tasks share one data set, and peak rates a factor 3 apart are a coarse grid. Large models, long trainings, and
trainings whose end is open may differ: [race your own](comparison.md).

## Over all tasks

{_over_tasks(evidence)}

- *less error*: interquartile mean of the scores of all runs. A score is the test error of Constant's run with the same
  seed, less the run's own, over Constant's mean test error on the task: 0 is as good as a constant rate, 100 % is no
  error. The best quarter and the worst quarter of all runs do not count, so that no single task decides.
- *these tasks*, *such tasks*: its 95 % interval when the seeds of each task are drawn anew (stratified bootstrap), and
  when the tasks are. The second answers what a task of one's own may bring; from {len(evidence.raced)} tasks it is
  rough.
- *beats Constant*: how probably a run has less error than Constant's with the same seed, a tie counted as half
  (probability of improvement), with its interval for such tasks.
- *first*: of 100 resampled sets of tasks, in how many it has the highest interquartile mean.
- *p vs best*, *p vs Constant*: sign-flip test of the mean scores, task by task, corrected for all comparisons (max-T),
  as in [a comparison](comparison.md).
- *tied on*: the tasks on which `compare` cannot tell it from the best of the task.
- *peak*: its tuned peak rate over that of Constant, geometric mean over tasks.

## Task by task

By how many percent the mean test error is less than Constant's. Bold: the best of the task; in brackets: `compare` can
tell it from the best.

{_by_task(evidence)}

What `compare` says of each:

{_verdicts(evidence)}

## How often how much

![Performance profiles](img/evidence_profiles.png)

The share of runs whose score is above each value, tasks weighing the same; bands: 95 % for these tasks.
A schedule whose line is above another's everywhere is better, whatever one asks for.

## How it was done

{evidence.scores.shape[2]} seeds, which set the rows or their split, the initial weights and the batch order.
{len(evidence.raced[0].race.grid.lrs)} peak rates, a factor 3 apart, around one that suits the task, the same for all
schedules; {_edges(evidence)}. Each schedule has the peak with the least mean validation error and is judged on test
data, a quarter of the rows. A diverged run counts as the worst value of its task; {_diverged(evidence)}.
Durations are shares of the training and were not tuned: warmup 10 %,
decay of WarmupStableDecay 20 %, OneCycle as it comes, MultiStep to a tenth at 50 and
75 %, Exponential down to 1 %, CosineRestarts four times, Plateau to 0.3 of the rate. The intervals take the tuned peaks
as given. The statistics are those of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" ([arXiv 2108.13264](https://arxiv.org/abs/2108.13264)).

`python scripts/evidence.py`, {results[0].date}: {sum(len(each.records) for each in results):,} trainings on
{results[0].machine}, {evidence.minutes:.0f} minutes of one core, reports included. What is interrupted goes on with the
same command; `--tasks moons,digits` runs some. The data are scikit-learn's, the bundled ionosphere data, and drawn
ones.
""")


def _filled(text: str) -> str:
    """Returns Markdown with its paragraphs and lists filled to 120 columns."""
    parts = []
    for part in text.strip().split("\n\n"):
        items = [part] if part.startswith(("#", "|", "!")) else map(_wrapped, re.split(r"\n(?=- )", part))
        parts.append("\n".join(items))
    return "\n\n".join(parts) + "\n"


def _wrapped(text: str) -> str:
    """Returns a paragraph or an item of a list in lines of 120 columns, a number and its percent sign in one."""
    together = " ".join(text.split()).replace(" %", "\N{NO-BREAK SPACE}%")
    lines = textwrap.fill(together, 120, subsequent_indent="  " * text.startswith("- "), break_on_hyphens=False)
    return lines.replace("\N{NO-BREAK SPACE}", " ")


def _diverged(evidence: Evidence) -> str:
    at_the_tuned = sum(row.diverged for each in evidence.raced for row in each.race.summary.schedules)
    return f"at the tuned peaks {at_the_tuned or 'none'} of {evidence.scores.size:,} did"


def _edges(evidence: Evidence) -> str:
    rows = [row for each in evidence.raced for row in each.race.summary.schedules]
    return f"{sum(row.edge is not None for row in rows) or 'none'} of {len(rows)} tuned peaks lie at an end of them"


def _over_tasks(evidence: Evidence) -> str:
    lines = [f"| schedule | {' | '.join(_COLUMNS)} |", f"|---|{'---|' * len(_COLUMNS)}"]
    for row in evidence.rows:
        beats = f"{percent(row.improvement)} ({_span(*row.improvement_interval)})"
        cells = [
            *(row.schedule, percent(row.gain), _span(*row.by_seeds), _span(*row.by_tasks)),
            *("" if row.schedule == "Constant" else beats, f"{round(100 * row.first)}"),
            "" if row.against_best is None else _p(row.against_best.p_corrected),
            "" if row.against_constant is None else _p(row.against_constant.p_corrected),
            *(f"{row.tied_on} of {len(evidence.raced)}", f"{row.peak:.1f} x"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _by_task(evidence: Evidence) -> str:
    order = [evidence.schedules.index(row.schedule) for row in evidence.rows]
    names = [evidence.schedules[i] for i in order]
    lines = [f"| task | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for each, scores in zip(evidence.raced, evidence.scores.mean(axis=2), strict=True):
        summary = each.race.summary
        cells = []
        for i, name in zip(order, names, strict=True):
            number = f"{round(100 * scores[i])}"
            told = number if name in summary.tied else f"({number})"
            cells.append(f"**{number}**" if name == summary.best else told)
        lines.append(f"| {each.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdicts(evidence: Evidence) -> str:
    lines = []
    for each in evidence.raced:
        task, verdict = each.task, each.race.verdict[0]
        constant = f"{each.errors[0].mean():.3g}"
        lines.append(f"- *{each.name}* ({task.about}; {task.error}, Constant's {constant}): {verdict}")
    return "\n".join(lines)


def _span(low: float, high: float) -> str:
    return f"{round(100 * low)} to {round(100 * high)}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def draw_ranking(evidence: Evidence) -> Figure:
    """Draws for each schedule how much less error it makes, and how probably a run is better than one of Constant."""
    rows = evidence.rows
    figure = new_figure(8, 1.5 + 0.27 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    for place, row in enumerate(rows):
        color = _BEHIND if row.told_apart else _AHEAD
        _line(left, place, row.gain, row.by_tasks, color)
        left.plot(np.array(row.by_seeds) * 100, [place, place], color=color, linewidth=4, solid_capstyle="butt")
        if row.schedule != "Constant":
            _line(right, place, row.improvement, row.improvement_interval, color)
    for axes, zero, label in (
        (left, 0, "less test error than a constant rate, %"),
        (right, 50, "runs that beat a constant rate, %"),
    ):
        plain(axes)
        axes.grid(axis="x", color=GRID, linewidth=0.8)
        axes.axvline(zero, color=INK, linewidth=1)
        axes.set_xlabel(label, fontsize=10, color=SOFT)
        axes.tick_params(labelsize=10)
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_yticks(range(len(rows)), [row.schedule for row in rows])
    left.tick_params(axis="y", labelcolor=INK)
    tasks = len(evidence.raced)
    _title(figure, f"{len(rows)} schedules on {tasks} small tasks, each at its tuned peak rate")
    words = "thin: 95 % for tasks of this kind; thick: for these tasks; grey: worse than the first beyond chance"
    figure.supxlabel(words, x=0.01, ha="left", fontsize=9.5, color=SOFT)
    return figure


def _line(axes: Axes, place: int, value: float, ends: tuple[float, float], color: str) -> None:
    axes.plot(np.array(ends) * 100, [place, place], color=color, linewidth=1.4)
    axes.plot(100 * value, place, "o", color=color, markersize=6)


def draw_profiles(evidence: Evidence) -> Figure:
    """Draws the performance profiles, two of them in colour: the first, and the last that is not Constant."""
    low, high = np.quantile(evidence.scores, [0.03, 0.97])
    thresholds = np.linspace(low, high, 101)
    shares = performance_profile(evidence.scores, thresholds)
    bands = interval(performance_profile(with_other_seeds(evidence.scores, 500), thresholds))
    names = [row.schedule for row in evidence.rows if row.schedule != "Constant"]  # whose scores are all 0
    shown = (names[0], names[-1])
    figure = new_figure(8, 4.2)
    axes = figure.add_subplot()
    plain(axes)
    axes.grid(color=GRID, linewidth=0.8)
    for name in [name for name in names if name not in shown]:
        line = shares[evidence.schedules.index(name)]
        axes.plot(100 * thresholds, 100 * line, color="#cfd4d9", linewidth=1, zorder=1)
    for name, color in zip(shown, _COLORS, strict=True):
        i = evidence.schedules.index(name)
        axes.plot(100 * thresholds, 100 * shares[i], color=color, linewidth=1.8, label=name)
        axes.fill_between(100 * thresholds, 100 * bands[0][i], 100 * bands[1][i], color=color, alpha=0.15, linewidth=0)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel("less test error than a constant rate with the same seed, %", fontsize=10, color=SOFT)
    axes.set_ylabel("runs above that, %", fontsize=10, color=SOFT)
    axes.tick_params(labelsize=10)
    axes.legend(fontsize=10, frameon=False)
    _title(figure, "How often a schedule brings how much")
    figure.supxlabel(
        "grey: the other schedules; bands: 95 % for these tasks", x=0.01, ha="left", fontsize=9.5, color=SOFT
    )
    return figure


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=12, fontweight="bold", color=INK)

"""How a race was done: in a list of sentences, in one that a paper can use, and where and when."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lit_lrsched.comparison.evidence.words import figure
from lit_lrsched.comparison.report.results import Results
from lit_lrsched.comparison.report.words import counted, percent, tuned_beside_rate


def how(results: Results) -> str:
    """Returns the section that says how the race was done."""
    sentences = [*_design(results), *_judgement(results), *_execution(results)]
    made = f"Made by <code>{escape(results.command)}</code> with lit_lrsched {results.version} on {results.date}."
    return f"""<section>
<h2>How this was done</h2>
<ul class="how">{"".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)}<li>{made}</li></ul>
<h3>For a paper</h3>
<p class="copyable">{escape(in_a_paper(results))}</p>
</section>
"""


def in_a_paper(results: Results) -> str:
    """Returns the methods in a few sentences, to be copied."""
    summary, settings = results.summary, results.summary.settings
    counts = [counted(len({setting.lr for setting in settings}), "peak learning rate")]
    many = {"momentum": "momenta", "weight_decay": "weight decays"}
    for field, words in tuned_beside_rate(summary).items():
        counts.append(counted(len({getattr(setting, field) for setting in settings}), words, many[field]))
    seeds = counted(len(summary.seeds), "seed")
    if summary.spending is not None:
        seeds = f"up to {seeds}"
    text = (
        f"We compared {counted(len(summary.schedules), 'learning-rate schedule')} for {results.model} on "
        f"{results.data}, each at {' x '.join(counts)} with {seeds}, trained for {counted(results.epochs, 'epoch')} "
        f"with {results.optimizer}. "
    )
    if results.validation_metric == summary.metric:
        text += f"{summary.metric} chose the setting of each schedule and judged it. "
    else:
        text += (
            f"For each schedule, {results.validation_metric} on validation data chose the setting, and "
            f"{summary.metric} on test data, which chose nothing, judged it. "
        )
    if len(summary.seeds) > 1:
        text += (
            "Runs with the same seed share the split, the initial weights and the batch order; their differences from "
            "the best schedule were tested by sign-flip permutation with a step-down max-T correction over all "
            f"schedules, and have simultaneous {percent(summary)} intervals. "
        )
    lost = sum(setting.diverged for setting in settings)
    if lost:
        text += (
            f"{lost:,} of {counted(len(results.records), 'run')} diverged and counted as the worst value of any run. "
        )
    return f"{text}The race was run with lit_lrsched {results.version}."


def _design(results: Results) -> list[str]:
    settings = results.summary.settings
    momenta = sorted({setting.momentum for setting in settings})
    tried = f"at the same peak rates ({', '.join(f'{lr:g}' for lr in sorted({s.lr for s in settings}))})"
    if len(momenta) > 1:
        tried += f" and momenta ({', '.join(f'{momentum:g}' for momentum in momenta)})"
    if len(decays := sorted({setting.weight_decay for setting in settings})) > 1:
        tried += f" and weight decays ({', '.join(f'{decay:g}' for decay in decays)})"
    seeds, length = _seeds(results.summary.seeds), counted(results.epochs, "epoch")
    if results.summary.spending is not None:
        seeds = f"up to {len(results.summary.seeds)} seeds, more where the answer was open"
    return [
        f"Every schedule was trained {tried}, with {seeds}, for {length} with {results.optimizer}.",
        results.opening,
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
            f"Intervals of a mean are BCa bootstrap intervals of {percent(summary)}. Each p is that of a paired "
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
            f"{diverged:,} of {counted(len(results.records), 'run')} diverged. Such a run is never dropped: it counts "
            "as the worst value that any other run showed after any epoch."
        )
    return [judged, tests, lost]


def _execution(results: Results) -> list[str]:
    if results.trained:
        speed = f"{figure(results.seconds, 3)} s, {figure(results.trainings_per_second, 3)} trainings a second"
        took = f"Training {counted(results.trained, 'run')} took {speed}, on {results.machine}."
    else:
        took = "All runs were there already: nothing had to be trained."
    splits = results.summary.splits
    over = "initial weights" if splits is not None and splits.same_test else "splits, initial weights"
    return [
        f"The numbers speak about these data, over the seeds' {over} and batch orders. They are no claim about other "
        "data.",
        f"Engine: {results.engine} ({results.reason}). {took}" if results.engine else took,
    ]


def _seeds(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"the seed {seeds[0]}"
    if list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"the same {len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"
    return f"the same {len(seeds)} seeds"

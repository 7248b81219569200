"""The answer of a race in words."""

from __future__ import annotations

from collections.abc import Sequence

from lit_lrsched.comparison.evidence.looks import Spending
from lit_lrsched.comparison.evidence.power import least_seeds
from lit_lrsched.comparison.evidence.significance import Difference
from lit_lrsched.comparison.evidence.summary import Summary
from lit_lrsched.comparison.evidence.words import exactly, figure


def verdict(summary: Summary) -> tuple[str, str]:
    """Returns the answer in two sentences: who wins or who is tied, and how sure that is.

    The p and the interval are those of the comparison with the best, which pays for having picked it. Where a schedule
    may do better beyond the edge of the grid, nobody wins, and the second sentence says how to widen it.

    Args:
        summary: What :func:`summarize` returned.

    Returns:
        Two sentences, each of at most 100 columns as long as the names are short.

    >>> from lit_lrsched.comparison.evidence.runs import Run, RunKey
    >>> from lit_lrsched.comparison.evidence.summary import summarize
    >>> runs = [
    ...     Run(RunKey(name, 0.1, 0.0, 0.0, seed), validation=0.9, test=value + spread * (seed * 7 % 5 - 2))
    ...     for name, value, spread in [("constant", 0.80, 0.01), ("cosine", 0.82, 0.02)] for seed in range(10)
    ... ]
    >>> for sentence in verdict(summarize(runs, metric="test_acc", mode="max", reference="constant")):
    ...     print(sentence)
    cosine wins: mean test_acc 0.82, better than the rest beyond chance over 10 seeds.
    It beats constant by 0.02 (95 %: 0.01 to 0.03; p = 0.0078); no more seeds are needed.
    """
    seeds = len(summary.seeds)
    if summary.best is None:
        lowest = min(setting.lr for setting in summary.settings)
        return (
            "Every run diverged, so no schedule can be judged.",
            f"Lower the peak learning rates: the lowest tried was {lowest:g}.",
        )

    best = next(row for row in summary.schedules if row.schedule == summary.best)
    behind = {row.schedule: row.against_best for row in summary.schedules if row.against_best is not None}
    score = f"{summary.metric} {figure(best.mean or 0.0, 4)}"
    losses = f"; {best.diverged} of its {seeds} runs diverged" if best.diverged else ""
    if summary.out and best.diverged:
        losses = f"; diverged: {best.diverged} of its {seeds}, all of {_listed(summary.out)}"
    elif summary.out:
        losses = f"; every run of {_listed(summary.out)} diverged"

    if not behind:
        first = f"Only {best.schedule} {'finished' if summary.out else 'raced'}: mean {score}{losses}."
        if best.low is None:
            return first, "One seed gives no interval: run at least 2 seeds."
        interval = f"{figure(best.low, 4)} to {figure(best.high or 0.0, 4)} ({_percent(summary)}, {seeds} seeds)"
        return first, f"Its interval is {interval}; race it against another."
    if seeds == 1:
        return (
            f"One seed gives no interval: {best.schedule} came first ({score}), perhaps by luck{losses}.",
            f"At least {least_seeds(summary.alpha)} seeds are needed before schedules can be told apart.",
        )

    if len(summary.tied) > 1:
        first = f"No winner: {_listed(summary.tied)} are tied; the best mean is {best.schedule}'s, {score}{losses}."
    elif summary.open_edges:
        first = f"Not decided: {best.schedule} leads (mean {score}), but {_at_the_edge(summary)}{losses}."
    else:
        first = f"{best.schedule} wins: mean {score}, better than the rest beyond chance over {seeds} seeds{losses}."
    rival = _rival(summary)
    return first, f"It {_lead(summary, rival, behind[rival])}; {_outlook(summary, behind, rival)}."


def overlap_in_words(summary: Summary) -> str | None:
    """Returns a sentence on what the intervals speak of, where seeds share test rows; None where nothing is known.

    Args:
        summary: What :func:`summarize` returned.
    """
    if summary.splits is None or len(summary.seeds) == 1 or summary.best is None:
        return None
    if summary.splits.same_test:
        return f"Every seed has the same {summary.splits.test:,} test rows: intervals and p speak of these rows alone."
    first = "The seeds re-split the same rows, and intervals and p speak of these"
    behind = {row.schedule: row.against_best for row in summary.schedules if row.against_best is not None}
    found = behind[_rival(summary)].resplit if behind else None
    if found is None:
        return f"{first} alone."
    interval = f"{figure(_flipped(found.high))} to {figure(_flipped(found.low))}"
    lead = f"the lead over {_rival(summary)} is {interval} ({_probability(found.p)}; Nadeau and Bengio 2003)"
    return f"{first}; for new rows of their kind {lead}."


def spending_in_words(spending: Spending) -> list[str]:
    """Returns in a few sentences what a budget was spent on, and what left when.

    >>> from lit_lrsched.comparison.evidence.looks import Round
    >>> rounds = (
    ...     Round(2, 40, ("rex (lr 3, momentum 0)",), (), (), 19, 5),
    ...     Round(12, 190, (), ("linear", "rex"), ("step",), 2, 2),
    ... )
    >>> for sentence in spending_in_words(Spending(300, 230, 480, rounds, "budget")):
    ...     print(sentence)
    230 trainings of a budget of 300; the full grid with 12 seeds takes 480. More budget would go on.
    On validation data 1 setting left: 1 after 2 seeds.
    On test data linear and rex left after 12 seeds, told from the best.
    Every run of step diverged: it left after 12 seeds.
    """
    last = spending.rounds[-1].seeds
    ended = {
        "settled": f"{'One' if spending.rounds[-1].schedules_left else 'No'} schedule is left",
        "seeds": f"Nothing may have more than {last} seeds",
        "budget": "More budget would go on",
    }[spending.ended]
    sentences = [
        f"{spending.trainings:,} trainings of a budget of {spending.budget:,}; the full grid with {last} seeds takes "
        f"{spending.full:,}. {ended}."
    ]
    if number := sum(len(each.settings) for each in spending.rounds):
        when = ", ".join(f"{len(each.settings)} after {each.seeds}" for each in spending.rounds if each.settings)
        sentences.append(f"On validation data {number} setting{'s' if number > 1 else ''} left: {when} seeds.")
    if gone := [f"{_listed(r.schedules)} left after {r.seeds} seeds" for r in spending.rounds if r.schedules]:
        sentences.append(f"On test data {'; '.join(gone)}, told from the best.")
    for each in spending.rounds:
        if each.out:
            who = "it" if len(each.out) == 1 else "they"
            sentences.append(f"Every run of {_listed(each.out)} diverged: {who} left after {each.seeds} seeds.")
    return sentences


def few_seeds_in_words(schedules: int, seeds: int, alpha: float = 0.05) -> str | None:
    """Returns a warning where so few seeds cannot decide anything, whatever they show; None where they can.

    >>> print(few_seeds_in_words(4, 5))
    5 seeds cannot tell schedules apart: p is never below 0.0625, and 0.05 is asked for. Give at least 6.
    >>> few_seeds_in_words(4, 6) is None
    True
    """
    least = least_seeds(alpha)
    if schedules < 2 or seeds >= least:
        return None
    who = "1 seed" if seeds == 1 else f"{seeds} seeds"
    why = f"p is never below {2.0 ** (1 - seeds):g}, and {alpha:g} is asked for"
    return f"{who} cannot tell schedules apart: {why}. Give at least {least}."


def _rival(summary: Summary) -> str:
    """Returns the schedule that the best is told against: the reference, or the second."""
    behind = [row.schedule for row in summary.schedules if row.against_best is not None]
    return summary.reference if summary.reference in behind else behind[0]


def _at_the_edge(summary: Summary) -> str:
    rows = {row.schedule: row for row in summary.schedules}
    if len(summary.open_edges) > 1:
        return f"the best rates of {_listed(summary.open_edges)} are at the edge of those tried"
    (name,) = summary.open_edges
    whose = "its" if name == summary.best else f"{name}'s"
    return f"{whose} best rate is the {rows[name].edge} tried"


def _outlook(summary: Summary, behind: dict[str, Difference], rival: str) -> str:
    """Returns what would decide the race."""
    if summary.open_edges:
        return f"widen the grid: lrs=[{', '.join(map(exactly, summary.wider_lrs))}]"
    if len(summary.tied) == 1:
        return "no more seeds are needed"
    nearest = rival if rival in summary.tied else next(iter(behind))
    more = behind[nearest].more_seeds
    if more is not None:
        purpose = "settle it" if len(summary.tied) == 2 and nearest == rival else f"tell it from {nearest}"
        return f"~{more} more seeds should {purpose}"
    if behind[nearest].low == behind[nearest].high == 0:
        return "no number of seeds would settle it"
    if _is_level(summary, behind[nearest]):
        return "how many seeds would settle it is unknown"
    return f"luck alone often gives {'such a lead' if nearest == rival else f'its lead over {nearest}'}"


def _is_level(summary: Summary, difference: Difference) -> bool:
    """Returns whether a difference from the best is one of rounding alone: runs are judged by six digits."""
    return abs(difference.gain) <= 1e-6 * abs(summary.schedules[0].mean or 0.0)


def _percent(summary: Summary) -> str:
    return f"{100 * (1 - summary.alpha):g} %"


def _flipped(value: float) -> float:
    """Returns a rival's gain as the lead of the best; never -0.0."""
    return 0.0 - value


def _probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _lead(summary: Summary, rival: str, difference: Difference) -> str:
    """Returns by how much the best is ahead of a rival, with interval and p."""
    if difference.low is None or difference.high is None:
        interval = f"{len(summary.seeds)} seeds give no interval"
    else:
        interval = f"{_percent(summary)}: {figure(_flipped(difference.high))} to {figure(_flipped(difference.low))}"
    p = _probability(difference.p_corrected)
    if _is_level(summary, difference):
        return f"is level with {rival} ({interval}; {p})"
    verb = "leads" if rival in summary.tied else "beats"
    return f"{verb} {rival} by {figure(-difference.gain)} ({interval}; {p})"


def edges(summary: Summary) -> list[str]:
    """Returns a sentence for each end of the grid of rates at which schedules were best."""
    sentences = []
    for end, beyond in (("highest", "higher"), ("lowest", "lower")):
        names = [row.schedule for row in summary.schedules if row.edge == end]
        if names:
            verb = "does" if len(names) == 1 else "do"
            who = ", ".join(names) if len(names) <= 3 else f"{len(names)} of the {len(summary.schedules)} schedules"
            sentences.append(f"{who} {verb} best at the {end} rate tried: a {beyond} one may be better still.")
    return sentences


def _listed(names: Sequence[str]) -> str:
    """Returns names as words, the tail of a long list as a number.

    >>> [_listed(["a"]), _listed(["a", "b", "c"]), _listed(["a", "b", "c", "d", "e"])]
    ['a', 'a, b and c', 'a, b and 3 more']
    """
    if len(names) == 1:
        return names[0]
    if len(names) <= 3:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:2])} and {len(names) - 2} more"

"""Numbers of a race as text, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lit_lrsched.comparison.evidence.significance import Difference
from lit_lrsched.comparison.evidence.summary import ScheduleSummary, Summary
from lit_lrsched.plans.numbers import NOTHING, decimals_of, number


def tuned_beside_rate(summary: Summary) -> dict[str, str]:
    """Returns what of a setting raced at several values besides the peak rate: its name in words by its field."""
    axes = {"momentum": "momentum", "weight_decay": "weight decay"}
    return {
        field: words
        for field, words in axes.items()
        if len({getattr(setting, field) for setting in summary.settings}) > 1
    }


def counted(n: int, one: str, many: str | None = None) -> str:
    """Returns how many there are of something.

    >>> counted(1, "seed"), counted(2000, "seed"), counted(2, "momentum", "momenta")
    ('1 seed', '2,000 seeds', '2 momenta')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(numbers: Iterable[float]) -> str:
    """Returns numbers one after another.

    >>> listed([0.1, 3])
    '0.1, 3'
    """
    return ", ".join(f"{number:g}" for number in numbers)


def percent(summary: Summary) -> str:
    """Returns the level of the intervals, such as ``95 %``."""
    return f"{100 * (1 - summary.alpha):g} %"


def planes(summary: Summary) -> dict[tuple[float, float], str]:
    """Returns every momentum and weight decay that raced together, each pair with its title; empty for a single one."""
    axes = tuned_beside_rate(summary)
    found = {}
    for setting in sorted(summary.settings, key=lambda each: (each.momentum, each.weight_decay)):
        values = (f"{words} {getattr(setting, field):g}" for field, words in axes.items())
        found[setting.momentum, setting.weight_decay] = ", ".join(values)
    return found


def decimals(summary: Summary) -> int:
    """Returns how many decimals the metric deserves."""
    intervals = [(row.low, row.high) for row in summary.schedules if row.low is not None and row.high is not None]
    return decimals_of(intervals, [row.mean for row in summary.schedules])


def shortened(name: str, longest: int) -> str:
    """Returns a name, the tail of a long one as an ellipsis."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def shortened_apart(names: Sequence[str], longest: int) -> list[str]:
    """Returns names, the tail of long ones as an ellipsis, or their middle, or nothing, so that none look alike.

    >>> shortened_apart(["a long name of one", "another long name"], 8)
    ['a long …', 'another…']
    >>> shortened_apart(["a long name of one", "a long name of two"], 8)
    ['a l… one', 'a l… two']
    """
    head, tail = longest // 2 - 1, longest - longest // 2
    without_middle = [name if len(name) <= longest else f"{name[:head]}…{name[-tail:]}" for name in names]
    for found in ([shortened(name, longest) for name in names], without_middle):
        if len(set(found)) == len(set(names)):
            return found
    return list(names)


def interval(row: ScheduleSummary, places: int) -> str:
    """Returns the interval of a schedule's mean as text."""
    if row.low is None or row.high is None:
        return NOTHING
    return f"{number(row.low, places)} to {number(row.high, places)}"


def difference_interval(difference: Difference | None, places: int) -> str:
    """Returns the interval of a difference as text.

    >>> difference_interval(Difference(-0.012, -0.0312, 0.0049, 0.2, 0.3, None), 3)
    '-0.031 to 0.005'
    """
    if difference is None or difference.low is None or difference.high is None:
        return NOTHING
    return f"{number(difference.low, places)} to {number(difference.high, places)}"


def probability(difference: Difference | None) -> str:
    """Returns the corrected p as text.

    >>> [probability(Difference(0.1, None, None, p, p, None)) for p in (0.00002, 0.0313, 1.0)]
    ['<0.001', '0.031', '1']
    """
    return NOTHING if difference is None else p_in_words(difference.p_corrected)


def p_in_words(p: float) -> str:
    """Returns a p as text."""
    return "<0.001" if p < 0.001 else "1" if p == 1 else f"{p:.3f}"

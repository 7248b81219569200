"""What left a race with a budget and when, as a section of the page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lit_lrsched.comparison.evidence.summary import Summary
from lit_lrsched.comparison.evidence.verdict import spending_in_words
from lit_lrsched.plans.numbers import NOTHING

_MOST_NAMES = 3  # shown at once; more are there to unfold


def rounds(summary: Summary) -> str:
    """Returns the section; nothing for the full grid.

    Args:
        summary: What the race says.
    """
    if summary.spending is None:
        return ""
    lines = "".join(
        f'<tr><th scope="row" class="name">{each.seeds}</th><td>{each.trainings:,}</td>'
        f"<td>{_names(each.settings)}</td>"
        f"<td>{_names([*each.schedules, *(f'{name} (diverged)' for name in each.out)])}</td></tr>\n"
        for each in summary.spending.rounds
    )
    return f"""<section>
<h2>What left and when</h2>
<p class="about">{escape(" ".join(spending_in_words(summary.spending)))} A row a round: how many seeds those that raced
in it have had at its end.</p>
<div class="panel scroll" tabindex="0"><table>
<thead><tr><th scope="col" class="name">seeds</th><th scope="col">trainings</th>
<th scope="col">settings that left,<br>on validation data</th>
<th scope="col">schedules that left,<br>on test data</th></tr></thead>
<tbody>
{lines}</tbody></table></div>
</section>
"""


def _names(left: Sequence[str]) -> str:
    names = "<br>".join(map(escape, left))
    if len(left) > _MOST_NAMES:
        return f"<details><summary>{len(left)}</summary>{names}</details>"
    return names or NOTHING

"""A race as a notebook shows it: the verdict, and the forest plot of the differences from the best."""

from __future__ import annotations

import html

from lit_lrsched.comparison.evidence.summary import Summary
from lit_lrsched.comparison.evidence.verdict import verdict
from lit_lrsched.comparison.report.pictures import forest_plot
from lit_lrsched.plans.figures import in_html as figure_in_html


def in_html(summary: Summary) -> str:
    """Returns the verdict and the plot, as HTML that loads nothing: the picture stands in it."""
    answer, why = (html.escape(sentence) for sentence in verdict(summary))
    text = f"<p><b>{answer}</b></p><p>{why}</p>"
    if sum(row.mean is not None for row in summary.schedules) < 2:
        return text
    about = f"Difference of each schedule from {summary.best} in {summary.metric}"
    return f"{text}{figure_in_html(forest_plot(summary)[0], about)}"

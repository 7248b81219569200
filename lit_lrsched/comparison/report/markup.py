"""How the page writes a schedule: its name, and its place in the race."""

from __future__ import annotations

import re
from html import escape

from lit_lrsched.comparison.evidence.summary import ScheduleSummary, Summary


def schedule_name(name: str) -> str:
    """Returns a schedule's name, which may break where its words end."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[_./-])", "<wbr>", escape(name))


def rank(row: ScheduleSummary, summary: Summary) -> str:
    """Returns a schedule's class in the style sheet."""
    if row.schedule == summary.best:
        return "best tied"
    return "tied" if row.schedule in summary.tied else "behind"

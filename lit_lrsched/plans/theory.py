"""What theory says of plans: their best peaks and bounds, and which updates the weights keep."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from lit_lrsched.plans.audit import Finding
from lit_lrsched.plans.numbers import percent
from lit_lrsched.plans.plan import Plan, plan_of
from lit_lrsched.plans.view import View
from lit_lrsched.schedules.shapes import Constant
from lit_lrsched.theory.bound import TRANSFER_HELD, ConvexBound, bound_of
from lit_lrsched.theory.memory import UpdateMemory, first_of_last_tenth, memory_of
from lit_lrsched.theory.pieces import Pieces, pieces_of

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 96  # characters in a line of notes

ABOUT_PEAK = textwrap.fill(
    "best peak: by how much to multiply the peak rate that was tuned for the first, from a convex bound. It held "
    f"{TRANSFER_HELD} (docs/theory.md).",
    _WIDTH,
)


def best_peaks(views: Mapping[str, View]) -> dict[str, float | None]:
    """Returns the best peak of each plan relative to that of the first; None where one is 0 throughout."""
    bounds = {name: bound_of(_rates(view.plan)) for name, view in views.items()}
    first = next(iter(bounds.values()))
    return {name: bound.peak / first.peak if bound and first else None for name, bound in bounds.items()}


class InTheory(NamedTuple):
    """What theory says of plans.

    Args:
        rows: One dict a plan: ``schedule``, ``best peak`` and ``bound`` relative to the first's, ``last tenth`` as a
            share, ``updates``; None where theory has none.
        notes: What there is to know to read them.
        findings: Its warnings.
    """

    rows: list[dict[str, Any]]
    notes: list[str]
    findings: list[Finding]

    @property
    def table(self) -> Table:
        """The rows for the terminal."""
        from rich import box
        from rich.table import Table

        result = Table(box=box.SIMPLE_HEAD)
        result.add_column("in theory")
        for title in _COLUMNS[1:]:
            result.add_column(title, justify="right")
        for name, peak, bound, tenth, updates in (row.values() for row in self.rows):
            numbers = (f"{peak:.3g}", f"{bound:.3g}", percent(tenth), f"{updates:,.0f}") if updates else "----"
            result.add_row(name, *numbers)
        return result


def theory(views: Mapping[str, View], weight_decay: float | None = None) -> InTheory:
    """Returns what theory says of plans.

    Args:
        views: Plans by name; a single one, with the name ``""``, is set beside a constant rate.
        weight_decay: The weight decay of an optimizer whose step is ``w <- (1 - lr d) w - lr u``. None leaves weight
            decay out: it acts in another way, or is not known.

    Raises:
        InputError: When the weight decay would shrink the weights to 0 or below in one step.
    """
    plans = {name or view.plan.title: view.plan for name, view in views.items()}
    if len(plans) == 1:
        plans = {_BESIDE: _constant_beside(*plans.values()), **plans}
    said = {name: _of(plan, weight_decay or 0.0) for name, plan in plans.items()}
    first, rows, findings = next(iter(said.values())), [], []
    for name, one in said.items():
        if one is None or first is None:
            rows.append(dict.fromkeys(_COLUMNS, None) | {"schedule": name})
            continue
        peak, value = one.bound.peak / first.bound.peak, one.bound.value / first.bound.value
        memory = one.memory
        numbers = (name, peak, value, memory.last_tenth, memory.effective)
        rows.append(dict(zip(_COLUMNS, numbers, strict=True)))
        if memory.warning and name != _BESIDE:
            findings.append(Finding("warning", f"{name}: {memory.warning}" if len(views) > 1 else memory.warning))
    horizon = next(iter(plans.values())).horizon
    notes = _notes(weight_decay, horizon.steps)
    return InTheory(rows, notes if len(views) > 1 else [ABOUT_PEAK, *notes], findings)


_BESIDE = "a constant rate"
_COLUMNS = ("schedule", "best peak", "bound", "last tenth", "updates")


def _notes(weight_decay: float | None, steps: int) -> list[str]:
    decay = "weight decay left out" if weight_decay is None else f"with weight decay {weight_decay:g}"
    notes = [
        "bound: of the loss above its minimum, each at its best peak, relative to the first; lower is better.",
        f"last tenth: what the last tenth of the steps makes of the final weights, {decay}; updates: how many of the "
        f"{steps:,} count.",
    ]
    return [textwrap.fill(note, _WIDTH) for note in notes]


class _Said(NamedTuple):
    bound: ConvexBound
    memory: UpdateMemory


def _of(plan: Plan, weight_decay: float) -> _Said | None:
    rates = _rates(plan, first_of_last_tenth(plan.horizon.steps))
    bound = bound_of(rates)
    return _Said(bound, memory_of(rates, weight_decay)) if bound else None


def _constant_beside(plan: Plan) -> Plan:
    """Returns the plan of a constant rate at the peak of another plan."""
    return plan_of(Constant(), plan.horizon, lr=max(_rates(plan).values) or None)


def _rates(plan: Plan, *edges: int) -> Pieces:
    """Returns the learning rate of the first group."""
    column = next(iter(plan.at(0)))
    stride = 1 if plan.events else plan.stride  # a metric may change a rate within a tick
    at = lru_cache(maxsize=None)(lambda tick: plan.at(tick * stride)[column])
    spans = [edge for span in plan.spans for edge in (span.start, span.stop)]
    held = range(0, plan.horizon.steps, plan.stride) if plan.stride > 1 else ()
    edges = (*edges, *spans, *(step for step, _ in plan.events), *held)
    return pieces_of(lambda step: at(step // stride), plan.horizon.steps, edges)

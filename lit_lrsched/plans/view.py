"""A plan and what there is to be seen of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lit_lrsched.plans.audit import Finding, audit
from lit_lrsched.plans.curve import Curve, sample
from lit_lrsched.plans.plan import Plan


class View(NamedTuple):
    """A plan and what there is to be seen of it."""

    plan: Plan
    curve: Curve
    findings: Sequence[Finding]

    @classmethod
    def of(cls, plan: Plan, findings: Sequence[Finding] = ()) -> View:
        """Looks at a plan: its curve, and what the audit says besides what is known already."""
        curve = sample(plan)
        return cls(plan, curve, [*findings, *audit(plan, curve.since(plan.begun))])


def run_in_words(plan: Plan) -> str:
    """Returns the length of a run: ``550 steps, 50 epochs of 11``."""
    horizon = plan.horizon
    steps = f"{horizon.steps:,} step{'s' * (horizon.steps > 1)}"
    if horizon.steps_per_epoch is None:
        return steps
    epochs = math.ceil(horizon.epochs)
    whole = f"{epochs:,} epochs of {horizon.steps_per_epoch:,}" if epochs > 1 else "one epoch"
    return f"{steps}, {whole}{', the last cut short' if epochs > 1 and horizon.steps % horizon.steps_per_epoch else ''}"


def clock_of(plan: Plan) -> tuple[str, Callable[[int], float]]:
    """Returns what a run is measured in, epochs where their length is known, and how far it is at a step."""
    return ("epoch", plan.horizon.epoch) if plan.horizon.steps_per_epoch else ("step", float)

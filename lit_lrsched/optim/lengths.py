"""The lengths that torch's schedulers were given, each made for a run of so many ticks."""

from __future__ import annotations

from torch.optim import lr_scheduler as torch_schedulers
from torch.optim.lr_scheduler import LRScheduler

from lit_lrsched.optim.torch_internals import milestones_of, parts_of
from lit_lrsched.plans.plan import MadeFor

# The argument that means a length, and whether the scheduler goes back up after it.
LENGTHS: dict[type[LRScheduler], dict[str, bool]] = {
    torch_schedulers.ConstantLR: {"total_iters": False},
    torch_schedulers.LinearLR: {"total_iters": False},
    torch_schedulers.PolynomialLR: {"total_iters": False},
    torch_schedulers.OneCycleLR: {"total_steps": False},
    torch_schedulers.CosineAnnealingLR: {"T_max": True},
    torch_schedulers.CosineAnnealingWarmRestarts: {"T_0": False},
    torch_schedulers.StepLR: {"step_size": False},
    torch_schedulers.MultiStepLR: {"milestones": False},
}


def made_for(scheduler: LRScheduler, before: int = 0) -> list[MadeFor]:
    """Returns the lengths that a torch scheduler was given, in its own ticks.

    Args:
        scheduler: Any scheduler.
        before: Ticks that pass before this one's turn comes.
    """
    name, own = type(scheduler).__name__, vars(scheduler)
    if isinstance(scheduler, torch_schedulers.SequentialLR):
        milestones = milestones_of(scheduler)
        last = made_for(parts_of(scheduler)[-1], before + (milestones[-1] if milestones else 0))
        return last or [MadeFor(name, "milestones", before + milestone, "holds") for milestone in milestones[-1:]]
    if isinstance(scheduler, torch_schedulers.ChainedScheduler):
        return [made for inner in parts_of(scheduler) for made in made_for(inner, before)]
    for argument, then in LENGTHS.get(type(scheduler), {}).items():
        value = max(own[argument], default=None) if argument == "milestones" else own[argument]
        return [] if value is None else [MadeFor(name, argument, before + value, "turns back" if then else "holds")]
    return []

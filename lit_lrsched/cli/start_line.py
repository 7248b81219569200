"""The line that says what is trained."""

from __future__ import annotations

from torch.nn.parameter import UninitializedParameter
from torch.optim import Optimizer

from lit_lrsched.optim.kept_scheduler import kept_by
from lit_lrsched.optim.param_groups import base_lr_of
from lit_lrsched.optim.scheduled_lr import ScheduledLR
from lit_lrsched.schedules.core import title_of
from lit_lrsched.trainer.lightning_package import Callback, LightningModule, Trainer

_MOST_RATES = 3


class StartLine(Callback):
    """Says what is trained, how, on which data and where, once training starts: a run that is refused says nothing."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line."""
        if trainer.is_global_zero:
            parameters = [*pl_module.parameters()]
            is_lazy = any(isinstance(one, UninitializedParameter) for one in parameters)
            size = "lazy parameters" if is_lazy else f"{sum(one.numel() for one in parameters):,} parameters"
            data = trainer.datamodule  # type: ignore[attr-defined]  # which Lightning sets from elsewhere
            on = type(data).__name__ if data is not None else "its own data"
            print(
                f"Training {type(pl_module).__name__} ({size}) on {on} with {_optimizers(trainer)} "
                f"and {_schedules(trainer)}, {_length(trainer)}, on {trainer.strategy.root_device.type}."
            )


def _optimizers(trainer: Trainer) -> str:
    return " and ".join(f"{type(one).__name__} (lr {_rates(one)})" for one in trainer.optimizers) or "no optimizer"


def _rates(optimizer: Optimizer) -> str:
    """Returns the rates of the param groups: each once, or of many the lowest and the highest."""
    rates = list(dict.fromkeys(base_lr_of(group) for group in optimizer.param_groups))
    if len(rates) > _MOST_RATES:
        return f"{min(rates):g} to {max(rates):g} in {len(optimizer.param_groups)} param groups"
    return ", ".join(f"{rate:g}" for rate in rates)


def _schedules(trainer: Trainer) -> str:
    schedulers = [kept_by(config.scheduler) for config in trainer.lr_scheduler_configs]
    names = [title_of(one.schedule) if isinstance(one, ScheduledLR) else type(one).__name__ for one in schedulers]
    return " and ".join(dict.fromkeys(names)) or "no schedule"


def _length(trainer: Trainer) -> str:
    counts = {"epoch": trainer.max_epochs, "step": trainer.max_steps}
    known = [
        f"{count:,} {unit}{'s' * (count > 1)}" for unit, count in counts.items() if count is not None and count > 0
    ]
    return " or ".join(known) or "without end"

"""Which methods of a module a race calls, and when."""

from __future__ import annotations

from dataclasses import dataclass

from lit_lrsched.comparison.engine.feeds import Feed
from lit_lrsched.comparison.engine.recorder import Stage
from lit_lrsched.comparison.engine.regime import Regime

STEP_OF: dict[Stage, str] = {"train": "training_step", "val": "validation_step", "test": "test_step"}

# What runs before the step of a batch, and what after it: in training, when the optimizer has made its step.
BEFORE_BATCH: dict[Stage, str] = {
    "train": "on_train_batch_start",
    "val": "on_validation_batch_start",
    "test": "on_test_batch_start",
}
AFTER_BATCH: dict[Stage, str] = {
    "train": "on_train_batch_end",
    "val": "on_validation_batch_end",
    "test": "on_test_batch_end",
}

# What runs between a step of training and its gradients, once those of the step before are not needed any more.
ZEROING = ("on_before_zero_grad", "optimizer_zero_grad")

# What runs between the gradients of a step and the optimizer, and may look at them or change them.
BEFORE_OPTIMIZER = ("on_after_backward", "on_before_optimizer_step", "configure_gradient_clipping")

# What runs for every batch, and not only for those that make a step where gradients add up.
OF_EVERY_BATCH = ("on_after_backward", *ZEROING)

# What runs before the first step of an epoch, and what before the first of all.
START_OF: dict[Stage, tuple[str, ...]] = {
    "train": ("on_train_epoch_start",),
    "val": ("on_validation_start", "on_validation_epoch_start"),
    "test": ("on_test_start", "on_test_epoch_start"),
}
FIRST = ("on_fit_start", "on_train_start")
END_OF: dict[Stage, tuple[str, ...]] = {
    "train": ("on_train_epoch_end",),
    "val": ("on_validation_epoch_end", "on_validation_end"),
    "test": ("on_test_epoch_end", "on_test_end"),
}

# What runs after the last epoch, and what a test may find changed.
LAST = ("on_train_end", "on_fit_end", "teardown")

# What changes the batches that come from a loader: a module may override it, or its data module.
OF_BATCHES = ("transfer_batch_to_device", "on_before_batch_transfer", "on_after_batch_transfer")

# What a module may override and still be its steps, the hooks above and nothing else. Hooks of prediction and
# of checkpoints never run here, nor does what comes after the test.
REFUSED_HOOKS = (
    *("configure_model", "configure_sharded_model", "backward"),
    *("optimizer_step", "lr_scheduler_step", "on_before_backward"),
    *OF_BATCHES,
    *("on_validation_model_eval", "on_validation_model_zero_grad", "on_validation_model_train", "on_test_model_eval"),
)

# More graphs than this take longer to trace than they save.
MOST_VARIANTS = 64


def is_first(stage: Stage, epoch: int) -> bool:
    """Returns whether training starts with this epoch."""
    return stage == "train" and epoch == 0


def hooks_of(kind: str, stage: Stage, epoch: int) -> tuple[str, ...]:
    """Returns what runs around an epoch.

    Args:
        kind: ``"start"`` before its first step, ``"end"`` after its last, ``"last"`` when training ends with it.
        stage: The stage.
        epoch: 0-based epoch.
    """
    if kind == "start":
        return (*(FIRST if is_first(stage, epoch) else ()), *START_OF[stage])
    return LAST if kind == "last" else END_OF[stage]


@dataclass(frozen=True)
class Schedule:
    """How often the steps of a module run.

    Args:
        sizes: Rows in each batch of an epoch, by feed.
        epochs: Epochs of training.
        regime: Which batches train, and how their gradients make steps.
        total: Optimizer steps of training.
    """

    sizes: dict[Feed, tuple[int, ...]]
    epochs: int
    regime: Regime
    total: int

    @property
    def steps(self) -> dict[Feed, int]:
        """Batches an epoch, by feed."""
        return {feed: len(sizes) for feed, sizes in self.sizes.items()}

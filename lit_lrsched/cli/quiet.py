"""Which of Lightning's messages are about the run at hand."""

from __future__ import annotations

import logging
import warnings

# What Lightning says of other machines, other products, and what is plain to see.
_NOT_ABOUT_THIS_RUN = (
    "GPU available",
    "TPU available",
    "HPU available",
    "💡",
    "Seed set to",
    "`Trainer.fit` stopped",
    "Loading `train_dataloader`",
)


def _is_about_this_run(record: logging.LogRecord) -> bool:
    return not any(words in record.getMessage() for words in _NOT_ABOUT_THIS_RUN)


def quiet_lightning() -> None:
    """Lets through only what is about the run at hand."""
    for of_pytorch, of_fabric in (("lightning.pytorch", "lightning.fabric"), ("pytorch_lightning", "lightning_fabric")):
        for name in (f"{of_pytorch}.utilities.rank_zero", f"{of_fabric}.utilities.seed"):
            logging.getLogger(name).addFilter(_is_about_this_run)
    warnings.filterwarnings("ignore", message=".*does not have many workers")
    warnings.filterwarnings("ignore", message="Using `DistributedSampler` with the dataloaders")
    warnings.filterwarnings("ignore", message="The dirpath has changed")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")  # a resumed run's own
    warnings.filterwarnings("ignore", message=".*LeafSpec", module="(pytorch_)?lightning")

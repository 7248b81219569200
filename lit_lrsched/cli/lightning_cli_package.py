"""The classes of Lightning's command line, of the Lightning that the project at hand imports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_lrsched.trainer.lightning_package import part_of_lightning

if TYPE_CHECKING:
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, LRSchedulerTypeTuple, SaveConfigCallback
else:
    _cli = part_of_lightning("cli")
    LightningArgumentParser, LightningCLI = _cli.LightningArgumentParser, _cli.LightningCLI
    LRSchedulerTypeTuple, SaveConfigCallback = _cli.LRSchedulerTypeTuple, _cli.SaveConfigCallback

__all__ = ["LRSchedulerTypeTuple", "LightningArgumentParser", "LightningCLI", "SaveConfigCallback"]

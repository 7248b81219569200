"""One progress bar for a whole run, with the current learning rate."""

from __future__ import annotations

import math
import sys
from typing import Any

from lit_lrsched.optim.param_groups import values_of
from lit_lrsched.trainer.lightning_package import LightningModule, Tqdm, TQDMProgressBar, Trainer


class RunProgressBar(TQDMProgressBar):
    """Lightning's bar, stretched over all epochs: a small model's epochs are over before a bar of their own is drawn.

    Where standard output is no terminal, a line every ten seconds has to do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rate: dict[str, str] = {}

    @property
    def is_disabled(self) -> bool:
        """Whether the short bars of ``validate``, ``test`` and ``predict`` are hidden: they redraw, so in a log too."""
        return not self.is_enabled or not sys.stdout.isatty()

    def init_sanity_tqdm(self) -> Tqdm:
        """Shows nothing for the sanity check."""
        return Tqdm(disable=True)

    def init_validation_tqdm(self) -> Tqdm:
        """Shows a bar for ``validate``, none inside ``fit``."""
        return Tqdm(disable=True) if self.trainer.state.fn == "fit" else super().init_validation_tqdm()

    def init_train_tqdm(self) -> Tqdm:
        """Makes the bar of the run. Its length is unknown when the number of epochs or of batches is."""
        trainer = self.trainer
        epochs = trainer.max_epochs or -1
        batches, accumulate = trainer.num_training_batches, trainer.accumulate_grad_batches
        total = batches * epochs if epochs > 0 else math.inf
        if trainer.max_steps > 0:
            in_epoch = min(batches, trainer.max_steps * accumulate)
            whole, rest = divmod(trainer.max_steps, math.ceil(in_epoch / accumulate))  # its last step may be of fewer
            total = min(total, whole * in_epoch + rest * accumulate)
        return Tqdm(
            total=None if total == math.inf else int(total),
            initial=trainer.fit_loop.epoch_loop.total_batch_idx + 1,
            disable=not self.is_enabled,
            dynamic_ncols=True,
            file=sys.stdout,
            mininterval=0.1 if sys.stdout.isatty() else 10,
            unit="batch",
            bar_format="{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}, {rate_fmt}{postfix}",
        )

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Names the epoch and shows the rate that it uses."""
        last = f"/{trainer.max_epochs}" if (trainer.max_epochs or -1) > 0 else ""
        self.train_progress_bar.set_description(f"Epoch {trainer.current_epoch + 1}{last}", refresh=False)
        self._note_rate(trainer)
        self._show_metrics(trainer, trainer.lightning_module)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Notes the rate that the epoch ends with: afterwards there is that of the next step, 0 behind the last."""
        if trainer.is_last_batch:
            self._note_rate(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Moves the bar on."""
        self.train_progress_bar.update()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the epoch's metrics."""
        self._show_metrics(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows the validation's metrics."""
        self.val_progress_bar.close()
        self.reset_dataloader_idx_tracker()
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._show_metrics(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the bar's line, so that what is said next begins one of its own."""
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()

    def _show_metrics(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.is_enabled:
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """Returns what stands behind the bar: the first param group's learning rate, then the module's metrics."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {**self._rate, **metrics}

    def _note_rate(self, trainer: Trainer) -> None:
        rates = values_of(trainer.optimizers, ["lr"])
        self._rate = {"lr": f"{next(iter(rates.values())):.4g}"} if rates else {}

"""Runs each situation with stock Lightning and torch's scheduler, and with this package, and writes what they did.

python scripts/docs/situations.py            # write docs/situations.md
python scripts/docs/situations.py --check    # fail when that file is not what would be written
python scripts/docs/situations.py --check --rows "Resumed as it was"    # look at these rows alone
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from both_sides import (
    BATCHES,
    PEAK,
    Made,
    Module,
    NoLength,
    Numbers,
    Outcome,
    Save,
    Used,
    Validated,
    both,
    cosine_over,
    fit,
    go_on,
    ours,
    says,
    sgd,
    stock,
)
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import BackboneFinetuning, EarlyStopping, GradientAccumulationScheduler
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.optim import Optimizer, lr_scheduler

from lit_lrsched import ApplySchedule, Cosine, Horizon, OneCycle, Plateau, table
from lit_lrsched.errors import InputError

FILE = Path(__file__).resolve().parents[2] / "docs" / "situations.md"


class Hasty(EarlyStopping):
    """Wants to stop after the first epoch."""

    def __init__(self) -> None:
        super().__init__("val_loss", stopping_threshold=1e9)


ORDINARY: dict[str, tuple[dict[str, Any], list[Callable[[], Callback]], int, int]] = {
    # options, callbacks, the horizon, and the steps taken
    "accumulate_grad_batches": ({"accumulate_grad_batches": 2}, [], 6, 6),
    "a last batch that is flushed": ({"data": Numbers(5), "accumulate_grad_batches": 2}, [], 9, 9),
    "limit_train_batches": ({"limit_train_batches": 3}, [], 9, 9),
    "max_steps": ({"max_steps": 7}, [], 7, 7),
    "min_epochs": ({"min_epochs": 2, "val": Numbers(1)}, [Hasty], 12, 8),
    "early stopping": ({"val": Numbers(1)}, [Hasty], 12, 4),
    "val_check_interval": ({"val": Numbers(1), "val_check_interval": 0.5}, [], 12, 12),
    "a data set without length and max_steps": ({"data": NoLength(), "max_epochs": -1, "max_steps": 10}, [], 10, 10),
    "reload_dataloaders_every_n_epochs": ({"reload_dataloaders_every_n_epochs": 1}, [], 12, 12),
    "fast_dev_run": ({"fast_dev_run": 3}, [], 3, 3),
    "bf16-mixed": ({"precision": "bf16-mixed"}, [], 12, 12),
}


def ordinary() -> Outcome:
    """Runs all those in which nothing is the matter."""
    results = [
        both(cosine_over(horizon)[:steps], *callbacks, kind=Validated if "val" in options else Module, **options)
        for options, callbacks, horizon, steps in ORDINARY.values()
    ]

    def summary(side: int) -> str:
        wrong = [name for name, result in zip(ORDINARY, results, strict=True) if not result[side].startswith("right")]
        return f"wrong with {' and '.join(wrong)}" if wrong else f"right in all {len(results)}"

    return summary(0), summary(1)


def changing_accumulation() -> Outcome:
    """Four batches: 4 steps in the first epoch, 2 in each of the others."""
    return both(cosine_over(8), lambda: GradientAccumulationScheduler({0: 1, 1: 2}))


def no_end() -> Outcome:
    """Epochs without a known number of batches: there is no right curve."""

    def run(made: Made) -> str:
        try:
            factors = fit(Module(made), data=NoLength()).factors
        except InputError:
            return "refuses, and says what to set"
        return f"trains, with {', '.join(f'{factor:.0f}' for factor in factors[:4])}, ... of the peak"

    return run(stock()), run(ours())


def skipped() -> Outcome:
    """Three of twelve gradients overflow."""

    class Overflows(Module):
        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss * torch.inf if self.trainer.fit_loop.total_batch_idx in (0, 1, 5) else loss

    def run(made: Made) -> str:
        scaler = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0))
        return says(lambda: fit(Overflows(made), plugins=[scaler]), cosine_over(12)[:9])

    return run(stock()), run(ours())


def cut_short() -> Outcome:
    """An epoch ends early because `on_train_batch_start` returns -1: 4 + 2 + 4 steps are taken."""

    class Cut(Module):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if (self.current_epoch, batch_idx) == (1, 2) else None

    return both(cosine_over(12)[:10], kind=Cut)


def growing() -> Outcome:
    """The data grows from 4 to 8 batches after the first epoch: no one could have known."""

    class Grows(Module):
        def train_dataloader(self) -> Numbers:
            return Numbers(4 if self.current_epoch == 0 else 8)

    def run(made: Made) -> str:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            used = fit(Grows(made), reload_dataloaders_every_n_epochs=1).factors
        told = any("does not follow" in str(one.message) for one in caught)
        return f"ends with {used[-1]:.3f} of the peak, and {'warns' if told else 'says nothing'}"

    return run(stock()), run(ours())


def unfrozen() -> Outcome:
    """A backbone joins in the second epoch, at a tenth of the head's rate, to which each epoch takes it back."""

    class Backbone(Used):
        @property
        def factors(self) -> list[float]:
            return [rates[1] for rates in self.rates[BATCHES:]]

    head = cosine_over(12)
    right = [0.1 * head[4] * head[n] / head[n // 4 * 4] for n in range(4, 12)]

    def run(made: Made) -> str:
        finetuning = BackboneFinetuning(1, lambda epoch: 1.0, backbone_initial_ratio_lr=0.1)
        backbone = Backbone()
        return says(lambda: (fit(Module(made), finetuning, backbone), backbone)[1], right, first=BATCHES)

    return run(stock()), run(ours())


def manual_optimization() -> Outcome:
    """The module steps its optimizer itself, and nobody has told it of a schedule."""

    class Manual(Module):
        automatic_optimization = False

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()
            return torch.zeros(())

    return (
        says(lambda: fit(Manual(stock())), cosine_over(12)),
        says(lambda: fit(Manual(sgd), ApplySchedule(Cosine())), cosine_over(12)),
    )


def resume() -> Outcome:
    """Resumed as it was."""
    right = cosine_over(12)[4:]
    return go_on(stock(), stock(), right), go_on(ours(), ours(), right)


def resume_data() -> Outcome:
    """Resumed in the middle of an epoch, with a data loader that could go on: are the weights those of a whole run?"""

    def run(made: Made) -> str:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            path = Path(folder, "stopped.ckpt")
            torch.manual_seed(0)
            whole, again = Module(made), Module(made)
            fit(whole, Save(path, batches=6))
            fit(again, ckpt_path=path)
        same = all(map(torch.equal, whole.parameters(), again.parameters()))
        return "the weights of a run that went through" if same else "other weights: the epoch's data began anew"

    return run(stock()), run(ours())


def longer() -> Outcome:
    """Resumed for six epochs in place of three."""
    right = cosine_over(24)[4:]
    return go_on(stock(), stock(), right, max_epochs=6), go_on(ours(), ours(), right, max_epochs=6)


def longer_one_cycle() -> Outcome:
    """The same with a cycle."""

    def one_cycle(optimizer: Optimizer, trainer: Trainer) -> Any:
        steps = int(trainer.estimated_stepping_batches)
        return lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=steps, cycle_momentum=False)

    theirs = go_on(stock(one_cycle), stock(one_cycle), table(OneCycle(), Horizon(24))[4:], max_epochs=6)
    mine = go_on(ours(OneCycle()), ours(OneCycle()), table(OneCycle(), Horizon(24))[4:], max_epochs=6)
    return theirs, mine


def other_batches() -> Outcome:
    """Resumed with batches half as large, so twice as many: one epoch of three is done."""
    right = cosine_over(24)[8:]
    return go_on(stock(), stock(), right, data=Numbers(8)), go_on(ours(), ours(), right, data=Numbers(8))


def other_schedule() -> Outcome:
    """A run that had a step schedule is resumed under a cosine."""

    def steps(optimizer: Optimizer, trainer: Trainer) -> Any:
        return lr_scheduler.StepLR(optimizer, 2, gamma=0.5)

    right = cosine_over(12)[4:]
    return go_on(stock(steps), stock(), right), go_on(stock(steps), ours(), right)


def none_before() -> Outcome:
    """A run that had no schedule is resumed under a cosine."""
    right = cosine_over(12)[4:]
    return go_on(sgd, stock(), right), go_on(sgd, ours(), right)


def plateau_checkpoint() -> Outcome:
    """The metric got worse in the second epoch, at whose end the checkpoint was written."""

    def plateau(optimizer: Optimizer, trainer: Trainer) -> Any:
        return lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)

    class Worse(Validated):
        losses = (0.5, 0.6, 0.4, 0.4, 0.4)

    theirs = stock(plateau, interval="epoch", monitor="val_loss")
    mine = ours(Plateau(patience=0, factor=0.5))
    right = [0.5] * 4
    return go_on(theirs, theirs, right, Worse, epoch=1), go_on(mine, mine, right, Worse, epoch=1)


def two_processes() -> Outcome:
    """Two processes see different metrics, and nobody reduces them."""

    def plateau(optimizer: Optimizer, trainer: Trainer) -> Any:
        return lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)

    def run(made: Made) -> str:
        with tempfile.TemporaryDirectory() as folder:
            fit(Disagreeing(made), Writes(folder), val=Numbers(2), strategy="ddp_fork", devices=2)
            first, second = (json.loads(path.read_text()) for path in sorted(Path(folder).iterdir()))
        return (
            f"both train with {first:g}" if first == second else f"one trains with {first:g}, the other with {second:g}"
        )

    theirs = stock(plateau, interval="epoch", monitor="val_loss")
    return run(theirs), run(ours(Plateau(patience=0, factor=0.5)))


class Disagreeing(Validated):
    """One process sees its metric fall, the other sees it rise."""

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        """Logs it."""
        self.log("val_loss", 10.0 + self.current_epoch * (2 if self.global_rank else -1), batch_size=1)


class Writes(Callback):
    """Writes the rate of the last epoch."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Writes it."""
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        Path(self.folder, f"{trainer.global_rank}.json").write_text(json.dumps(rate))


ROWS: dict[str, Callable[[], Outcome]] = {
    f"Nothing unusual: {', '.join(ORDINARY)}": ordinary,
    "Gradient accumulation that changes from epoch to epoch (`GradientAccumulationScheduler`)": changing_accumulation,
    "Data without a length, and no `max_steps`: nobody knows where training ends": no_end,
    "AMP's `GradScaler` skips 3 of 12 steps": skipped,
    "An epoch cut short by `on_train_batch_start`": cut_short,
    "Data that grows while training, by `reload_dataloaders_every_n_epochs`": growing,
    "A backbone unfrozen in the second epoch (`BackboneFinetuning`)": unfrozen,
    "Manual optimization in a module that knows of no schedule": manual_optimization,
    "Two processes that see different values of the metric of a plateau": two_processes,
    "Resumed as it was": resume,
    "Resumed in the middle of an epoch, with a data loader that can go on": resume_data,
    "Resumed for twice as many epochs": longer,
    "The same with a one-cycle schedule": longer_one_cycle,
    "Resumed with twice as many batches in an epoch": other_batches,
    "Resumed under another schedule": other_schedule,
    "Resumed from a checkpoint that had no schedule": none_before,
    "A plateau resumed from the end of an epoch whose metric was worse": plateau_checkpoint,
}


def rows(situations: Iterable[str]) -> Iterator[str]:
    """Runs situations and yields their rows."""
    for situation in situations:
        theirs, mine = ROWS[situation]()
        row = f"| {situation} | {theirs} | {mine} |\n"
        print(row, end="", flush=True)
        yield row


def page() -> str:
    """Runs everything and returns the page."""
    return HEAD.format(torch=torch.__version__.split("+")[0], lightning=lightning.__version__) + "".join(rows(ROWS))


def is_up_to_date(situations: Iterable[str]) -> bool:
    """Tells whether the page has the rows that these situations give now, or all of it where none is given."""
    text = FILE.read_text() if FILE.exists() else ""
    found = list(rows(situations))
    return set(found) <= set(text.splitlines(keepends=True)) if found else text == page()


HEAD = """# What happens to the learning rate when ...

`scripts/docs/situations.py` runs every row twice and writes this page: with stock Lightning, where
`configure_optimizers` returns torch's scheduler, stepped each step, for `trainer.estimated_stepping_batches`; and with
this package, where it returns `schedule_config(...)`, or a callback adds the schedule. Unless a row says otherwise, the
schedule is a cosine over 3 epochs of 4 batches, resumed runs go on after the first epoch, and the rates of all steps
are compared with the formula. Lightning {lightning}, torch {torch}.

| situation | stock Lightning, torch's scheduler | lit_lrsched |
| --- | --- | --- |
"""


def main() -> int:
    """Writes the page, or says whether it is up to date."""
    parser = argparse.ArgumentParser(description="Runs every situation and writes docs/situations.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the file is not up to date")
    parser.add_argument("--rows", nargs="+", default=[], choices=ROWS, metavar="SITUATION", help="check these alone")
    options = parser.parse_args()
    if options.rows and not options.check:
        parser.error("--rows goes with --check: the page is written whole")
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    if not options.check:
        FILE.write_text(page())
        return 0
    if is_up_to_date(options.rows):
        print("docs/situations.md is up to date")
        return 0
    print("docs/situations.md is stale: run python scripts/docs/situations.py")
    return 1


if __name__ == "__main__":
    sys.exit(main())

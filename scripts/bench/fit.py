"""Times the main job against a hand-written Lightning program with the same features.

Both sides run in one go and take turns, so that whatever else the machine does meets both. The ratio of the least
times is that of a quiet machine, if it was quiet for the length of one run; the median of the ratios of neighbours
holds on a busy one as well. Everything runs on one thread: the network is too small to share, and threads that wait
for each other would measure the rest of the machine.

    python scripts/bench/fit.py [--repeat 5] [--epochs 50]
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Before torch is loaded, here and in the processes that are started.
os.environ["OMP_NUM_THREADS"] = "1"

CSV_FILE = Path(__file__).resolve().parents[2] / "lit_lrsched" / "ionosphere" / "ionosphere.csv"
SCHEDULER_STEPS = 20_000

Side = Callable[[], float]  # runs once, returns seconds


def stock_program(folder: Path, epochs: int, progress_bar: bool) -> tuple[Any, ...]:
    """Returns trainer, module and loaders of the program that one writes by hand. It uses nothing of lit_lrsched."""
    import torch
    from lightning.pytorch import LightningModule, Trainer, seed_everything
    from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
    from lightning.pytorch.loggers import TensorBoardLogger
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset
    from torchmetrics import Accuracy

    class Classifier(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(nn.Linear(34, 34), nn.ReLU(), nn.Linear(34, 1))
            self.train_acc = Accuracy(task="binary")
            self.val_acc = Accuracy(task="binary")

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss = self._loss(batch, self.train_acc)
            # The step's, and the epoch's as well, which lit-lrsched logs.
            self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            self.log("train_acc", self.train_acc, on_step=True, on_epoch=True, prog_bar=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self._loss(batch, self.val_acc), prog_bar=True)
            self.log("val_acc", self.val_acc, prog_bar=True)

        def _loss(self, batch: Any, accuracy: Any) -> torch.Tensor:
            x, y = batch
            logits = self.network(x)
            accuracy(torch.sigmoid(logits), y)
            return nn.functional.binary_cross_entropy_with_logits(logits, y)

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=30)]

    seed_everything(42, verbose=False)
    with CSV_FILE.open(newline="") as file:
        rows = list(csv.reader(file))
    random.Random(0).shuffle(rows)
    x = torch.tensor([[float(cell) for cell in row[:-1]] for row in rows])
    y = torch.tensor([[float(row[-1] == "g")] for row in rows])
    train = DataLoader(TensorDataset(x[:246], y[:246]), batch_size=24, shuffle=True)
    validation = DataLoader(TensorDataset(x[246:299], y[246:299]), batch_size=24)
    trainer = Trainer(
        max_epochs=epochs,
        logger=TensorBoardLogger(folder),
        callbacks=[LearningRateMonitor(logging_interval="epoch"), ModelCheckpoint()],
        log_every_n_steps=1,
        enable_progress_bar=progress_bar,
        enable_model_summary=False,
    )
    return trainer, Classifier(), train, validation


def fit_stock(folder: Path, epochs: int, progress_bar: bool) -> float:
    """Times the training alone."""
    trainer, *rest = stock_program(folder, epochs, progress_bar)
    return seconds(lambda: trainer.fit(*rest))


def fit_ours(folder: Path, epochs: int, progress_bar: bool, tells_tensorboard: bool = True) -> float:
    """Times the training alone, of what ``lit-lrsched fit`` configures, perhaps without what TensorBoard is told."""
    from lit_lrsched.cli.command import Command
    from lit_lrsched.trainer.callbacks.learning_rate_logger import LearningRateLogger
    from lit_lrsched.trainer.callbacks.tensorboard_run import TensorBoardRun

    options = {"max_epochs": epochs, "default_root_dir": folder, "enable_progress_bar": progress_bar}
    cli = Command(args=[f"--trainer.{name}={value}" for name, value in options.items()], run=False)
    callbacks: list[Any] = cli.trainer.callbacks  # type: ignore[attr-defined]
    for callback in [one for one in callbacks if isinstance(one, (TensorBoardRun, LearningRateLogger))]:
        if not tells_tensorboard:
            callbacks.remove(callback)
    return seconds(lambda: cli.trainer.fit(cli.model, cli.datamodule))


def process(*command: str) -> Side:
    """Returns a side that runs a command in an empty folder and waits for it."""

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = partial(subprocess.run, command, cwd=folder, check=True, capture_output=True)
            return seconds(start)

    return run


def step_ours() -> float:
    """Times the steps of a ``ScheduledLR``."""
    from lit_lrsched import Horizon, Linear, ScheduledLR

    horizon = Horizon(SCHEDULER_STEPS, steps_per_epoch=11)
    return time_steps(lambda optimizer: ScheduledLR(optimizer, Linear(end=0.5), horizon))


def step_torch() -> float:
    """Times the steps of a ``LinearLR``."""
    from torch.optim.lr_scheduler import LinearLR

    return time_steps(lambda optimizer: LinearLR(optimizer, 1.0, 0.5, total_iters=SCHEDULER_STEPS))


def time_steps(make: Callable[[Any], Any]) -> float:
    """Times the steps of a scheduler."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = make(optimizer)
    optimizer.step()

    def steps() -> None:
        for _ in range(SCHEDULER_STEPS):
            scheduler.step()

    return seconds(steps)


def seconds(work: Callable[[], object]) -> float:
    """Returns how long some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def take_turns(ours: Side, other: Side, repeat: int) -> list[tuple[float, float]]:
    """Runs both sides by turns, each going first every other time, after one run of each that does not count."""
    ours(), other()
    pairs = []
    for turn in range(repeat):
        if turn % 2:
            pairs.append((ours(), other()))
        else:
            pairs.append((other(), ours())[::-1])
    return pairs


def report(what: str, unit: str, pairs: list[tuple[float, float]], target: str) -> None:
    """Prints a row of the table."""
    scale = {"s": 1, "ms": 1e3, "us": 1e6 / SCHEDULER_STEPS}[unit]
    ours, other = (scale * min(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    print(f"{what:<32}{unit:>4}{ours:>9.3f}{other:>9.3f}{ours / other:>9.3f}{ratio:>9.3f}   {target}", flush=True)


def quiet() -> None:
    """Keeps Lightning's advice off the table."""
    importlib.import_module("lightning.pytorch")  # sets the levels that the next lines change
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def machine() -> str:
    """Says what this is measured on."""
    versions = ", ".join(f"{name} {importlib.import_module(name).__version__}" for name in ("torch", "lightning"))
    load = f"load {os.getloadavg()[0]:.1f}, " if hasattr(os, "getloadavg") else ""
    return f"{platform.machine()}, {os.cpu_count()} cores, {load}Python {platform.python_version()}, {versions}"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="Times the main job against a hand-written Lightning program.")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each side that count (default: 5)")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of a run (default: 50)")
    parser.add_argument("--stock", action="store_true", help="only run the hand-written program, in this folder")
    options = parser.parse_args()
    if options.stock:
        trainer, *rest = stock_program(Path(), options.epochs, progress_bar=True)
        trainer.fit(*rest)
        return

    quiet()
    print(machine())
    print(f"{'':<36}{'least times':^18}{'ratio of':>9}{'median':>9}")
    print(f"{'':<36}{'ours':>9}{'other':>9}{'least':>9}{'ratio':>9}   target")
    compare_fits(options.repeat, options.epochs, progress_bar=False)
    compare_fits(options.repeat, options.epochs, progress_bar=True)
    compare_tensorboard_runs(options.repeat, options.epochs)
    compare_processes(options.repeat, str(options.epochs))
    compare_imports(4 * options.repeat)
    report("one step of a scheduler", "us", take_turns(step_ours, step_torch, 2 * options.repeat), "at most 1")


def compare_fits(repeat: int, epochs: int, progress_bar: bool) -> None:
    """Compares the training alone, in this process."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as hole, contextlib.redirect_stdout(hole):
        ours, other = (partial(fit, Path(folder), epochs, progress_bar) for fit in (fit_ours, fit_stock))
        pairs = take_turns(ours, other, repeat)
    report(f"trainer.fit, progress bars {'on' if progress_bar else 'off'}", "s", pairs, "at most 0.5")


def compare_tensorboard_runs(repeat: int, epochs: int) -> None:
    """Compares training with and without what TensorBoard is told beside the metrics."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as hole, contextlib.redirect_stdout(hole):
        with_it, without = (partial(fit_ours, Path(folder), epochs, False, tells) for tells in (True, False))
        pairs = take_turns(with_it, without, 2 * repeat)
    report("with TensorBoard's extras", "s", pairs, "at most 1.1")


def compare_processes(repeat: int, epochs: str) -> None:
    """Compares the whole processes."""
    ours = process(sys.executable, "-m", "lit_lrsched", "fit", "--trainer.max_epochs", epochs)
    other = process(sys.executable, __file__, "--stock", "--epochs", epochs)
    report("whole process", "s", take_turns(ours, other, repeat), "at most 0.9")


def compare_imports(repeat: int) -> None:
    """Compares importing the package with starting Python alone. Stops if that loads torch or Lightning."""
    loads = "import sys, lit_lrsched; sys.exit(not sys.modules.keys().isdisjoint({'torch', 'lightning'}))"
    pairs = take_turns(process(sys.executable, "-c", loads), process(sys.executable, "-c", "import sys"), repeat)
    added = 1e3 * statistics.median(ours - bare for ours, bare in pairs)
    report("import lit_lrsched, bare start", "ms", pairs, f"adds at most 50 ms: {added:.1f} ms")


if __name__ == "__main__":
    main()

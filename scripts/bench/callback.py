"""Times what our callbacks add to a ``Trainer.fit`` of the main job: at most 5 % is wanted of each.

- ``ApplySchedule`` puts a schedule on the run, whose trainer has no logger.
- ``LearningRateLogger`` logs a rate that changes with every step to the TensorBoard logger of ``lit-lrsched fit``.

Both sides run in one go and take turns. Of every epoch (and of what comes before the first) the least time of all
repeats counts: an epoch takes some milliseconds, and in one repeat or another nothing else disturbs it. The trainer has
no checkpoints and no progress bar, so that what the callback costs is not hidden behind what they cost.

    python scripts/bench/callback.py [--repeat 30] [--epochs 50]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import pairwise

import torch
from fit import machine, quiet
from lightning.pytorch import Callback, Trainer, seed_everything

from lit_lrsched import ApplySchedule, IonosphereClassifier, IonosphereDataModule, LearningRateLogger, WarmupCosine
from lit_lrsched.cli.loggers import RunLogger

LIMIT = 1.05


class Timed(IonosphereClassifier):
    """The worked example, which notes when each epoch begins."""

    def on_fit_start(self) -> None:
        """Begins."""
        self.times: list[float] = []

    def on_train_epoch_start(self) -> None:
        """Notes the time."""
        self.times.append(time.perf_counter())


def fit(epochs: int, callback: type[Callback], with_callback: bool) -> list[float]:
    """Trains, and returns how long everything before the first epoch took, and then each epoch."""
    seed_everything(42, verbose=False)
    schedule = WarmupCosine(warmup="5%")
    applies = callback is ApplySchedule
    ours = ApplySchedule(schedule) if applies else callback()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=epochs,
            logger=False if applies else RunLogger(folder),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[ours] if with_callback else [],
        )
        model, data = Timed(lr_scheduler=None if applies else schedule), IonosphereDataModule()
        start = time.perf_counter()
        trainer.fit(model, data)
        times = [start, *model.times, time.perf_counter()]
    return [after - before for before, after in pairwise(times)]


def main() -> int:
    """Measures, prints what each side takes, and returns 0 if the limit is kept."""
    parser = argparse.ArgumentParser(description="Times what our callbacks add to a Trainer.fit.")
    parser.add_argument("--repeat", type=int, default=30, help="runs of each side (default: 30)")
    parser.add_argument("--epochs", type=int, default=50, help="epochs of a run (default: 50)")
    options = parser.parse_args()
    quiet()
    torch.set_num_threads(1)  # or threads that wait for each other would be what is measured
    print(machine())
    ratios = []
    for callback in (ApplySchedule, LearningRateLogger):
        runs: dict[bool, list[list[float]]] = {True: [], False: []}
        for turn in range(options.repeat):
            for side in (True, False) if turn % 2 else (False, True):
                runs[side].append(fit(options.epochs, callback, side))
        ours, bare = (sum(map(min, zip(*runs[side], strict=True))) for side in (True, False))
        print(f"{options.epochs} epochs with {callback.__name__} {ours:.3f} s, bare {bare:.3f} s: ", end="")
        print(f"ratio {ours / bare:.3f}, and at most {LIMIT} is wanted")
        ratios.append(ours / bare)
    return 0 if max(ratios) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

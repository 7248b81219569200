"""Holds `find_lr` against rules that read one ramp of rates: how far the answers vary, and how well they train.

    python scripts/bench/find.py                            # all four
    python scripts/bench/find.py --only sets --sets wine    # one of them

- stability: quadratics whose largest stable rate is known, for SGD and with momentum; how often `largest_safe` is the
  rate of the grid right below it.
- noise: a loss curve over 100 rates with noise, judged 100 times; the spread of the answers.
- sets: the ionosphere data and four small data sets of scikit-learn. The test loss at each rule's rate over 20 seeds
  that it has not seen, in multiples of that of the best rate of a dense grid over the same seeds.
- speed: the command against `fit`, and the call against Lightning's `lr_find`, in turns.

The two rules beside ours are Lightning's `lr_find` (the steepest slope of the loss per unit of rate) and the valley
(the rate two thirds down the longest descent of a smoothed ramp, a rule that fastai's users know), both on a ramp of
100 steps.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

# Before torch is loaded, here and in the processes that are started.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from fit import machine, process, quiet, seconds, take_turns
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.tuner.tuning import Tuner
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched import IonosphereDataModule, Linear, WarmupCosine, find_lr, schedule_config
from lit_lrsched.comparison.builds import build_from
from lit_lrsched.comparison.engine.training import Training
from lit_lrsched.comparison.engine.vectorized import VectorizedRace
from lit_lrsched.schedules.core import Horizon, table
from lit_lrsched.search.judgement import judge
from lit_lrsched.search.rates import FloatArray, spread

FRESH = range(100, 120)
DENSE = 49  # rates over six decades


# --- Rules that read one ramp -----------------------------------------------------------------------------------------


def steepest(lrs: FloatArray, losses: FloatArray) -> float:
    """Returns where the loss falls fastest per unit of rate, without the first ten rates and the last."""
    kept, values = lrs[10:-1], losses[10:-1]
    finite = np.isfinite(values)
    return float(kept[finite][np.gradient(values[finite], kept[finite]).argmin()])


def valley(lrs: FloatArray, losses: FloatArray) -> float:
    """Returns the rate two thirds down the longest run of rates over which the loss, by its least, falls."""
    count = len(losses)
    lengths = np.ones(count, dtype=int)
    for i in range(1, count):
        lower = [lengths[j] + 1 for j in range(i) if losses[i] < losses[j]]
        lengths[i] = max(lower, default=1)
    end = int(lengths.argmax())
    start = end - int(lengths[end]) + 1
    return float(lrs[start + (end - start) * 2 // 3])


def ramp(model: Callable[..., LightningModule], data: Callable[..., LightningDataModule], seed: int) -> tuple[Any, Any]:
    """Returns the rates and losses of Lightning's ramp, and the rate that it suggests."""
    seed_everything(seed, verbose=False)
    trainer = Trainer(
        max_epochs=50,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        devices=1,
        default_root_dir=tempfile.mkdtemp(),
    )
    finder = Tuner(trainer).lr_find(model(), datamodule=data(seed=seed), update_attr=False)
    assert finder is not None
    return finder.suggestion(), (np.array(finder.results["lr"]), np.array(finder.results["loss"]))


# --- Stability --------------------------------------------------------------------------------------------------------


class Quadratic(LightningModule):
    """Half of the sum of curvature times weight squared."""

    def __init__(self, curvatures: list[float], momentum: float) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(len(curvatures)))
        self.curvatures, self.momentum = curvatures, momentum

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss."""
        loss: Tensor = 0.5 * (torch.tensor(self.curvatures) * self.weights**2).sum() + 0.0 * batch[0].sum()
        return loss

    def configure_optimizers(self) -> Any:
        """Returns SGD."""
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=self.momentum)


class Nothing(LightningDataModule):
    """Twenty batches of nothing."""

    def train_dataloader(self) -> Any:
        """Returns them."""
        return DataLoader(TensorDataset(torch.zeros(20, 1)))


def stability(repeat: int) -> None:
    """Prints how often the largest safe rate is the one of the grid right below the largest stable one."""
    for momentum in (0.0, 0.9):
        right = 0
        for number in range(repeat):
            random = np.random.default_rng(number)
            curvatures = (10 ** random.uniform(-2, 2, 5)).tolist()
            limit = 2 * (1 + momentum) / max(curvatures)
            low = limit / 100 * random.uniform(0.5, 2)
            found = run_quietly(
                partial(
                    find_lr,
                    partial(Quadratic, curvatures, momentum),
                    Nothing,
                    lrs=(low, 1e4 * low),
                    points=24,
                    epochs=20,
                )
            )
            rates = [row["lr"] for row in found.table]
            place = rates.index(found.largest_safe)
            right += rates[place] <= limit < rates[place + 1]
        print(f"quadratics, momentum {momentum:g}: the largest safe rate is right in {right} of {repeat}", flush=True)


# --- Noise ------------------------------------------------------------------------------------------------------------


def noise(repeat: int) -> None:
    """Prints the spread of each rule's answers on one curve with other noise every time."""
    lrs = spread(1e-8, 1.0, 100)
    x = np.linspace(-50, 50, 100)
    curve = (4000 - 30 * x - x**2) / 1000  # rises a little, then falls to 0 at the highest rate
    few = np.linspace(0, 99, 24).round().astype(int)
    answers: dict[str, list[float]] = {"find_lr, best": [], "steepest slope": [], "valley": []}
    for seed in range(repeat):
        random = np.random.default_rng(seed)
        one = curve + random.uniform(-0.1, 0.1, 100)
        seeds = curve[few, None] + random.uniform(-0.1, 0.1, (24, 4))  # 24 rates x 4 seeds: 96 numbers against 100
        answers["find_lr, best"].append(judge(lrs[few], seeds, np.zeros(seeds.shape, dtype=bool)).best)
        answers["steepest slope"].append(steepest(lrs, one))
        answers["valley"].append(valley(lrs, one))
    for name, found in answers.items():
        print(f"noise: {name:<16} from {min(found):.2g} to {max(found):.2g}, a factor of {max(found) / min(found):.3g}")


# --- Data sets --------------------------------------------------------------------------------------------------------


class Data(LightningDataModule):
    """Rows split 70:15:15 by the seed, each feature brought to mean 0 and deviation 1."""

    def __init__(self, x: Tensor, y: Tensor, seed: int = 0) -> None:
        super().__init__()
        rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
        train, val = int(0.7 * len(x)), int(0.85 * len(x))
        mean, deviation = x[rows[:train]].mean(0), x[rows[:train]].std(0)
        x = (x - mean) / torch.where(deviation > 0, deviation, 1.0)
        self.parts = [TensorDataset(x[part], y[part]) for part in (rows[:train], rows[train:val], rows[val:])]

    def train_dataloader(self) -> Any:
        """Returns the rows to train on."""
        return DataLoader(self.parts[0], 32, shuffle=True)

    def val_dataloader(self) -> Any:
        """Returns those to validate on."""
        return DataLoader(self.parts[1], 32)

    def test_dataloader(self) -> Any:
        """Returns those to test on."""
        return DataLoader(self.parts[2], 32)


class Net(LightningModule):
    """One hidden layer of 32."""

    def __init__(self, features: int, outputs: int, optimizer: Any, lr: float, loss: Any, schedule: Any = None) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, outputs))
        self.optimizer, self.lr, self.loss, self.schedule = optimizer, lr, loss, schedule

    def _step(self, stage: str, batch: Any) -> Tensor:
        x, y = batch
        loss: Tensor = self.loss(self.network(x), y)
        self.log(f"{stage}_loss", loss, on_step=False, on_epoch=True)
        return loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss."""
        return self._step("train", batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs it."""
        self._step("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Logs it."""
        self._step("test", batch)

    def configure_optimizers(self) -> Any:
        """Returns the optimizer and the schedule."""
        return schedule_config(self.optimizer(self.parameters(), lr=self.lr), self.schedule, self.trainer)


def data_sets() -> dict[str, tuple[Callable[..., LightningModule], Callable[..., LightningDataModule], int]]:
    """Returns model, data and epochs by name."""
    from sklearn import datasets

    entropy, square = nn.functional.cross_entropy, nn.functional.mse_loss
    momentum = partial(torch.optim.SGD, momentum=0.9)
    # What loads it, outputs, optimizer, rate, loss, schedule, epochs.
    described: dict[str, tuple[Any, ...]] = {
        "breast cancer": (datasets.load_breast_cancer, 2, torch.optim.Adam, 1e-3, entropy, None, 30),
        "wine": (datasets.load_wine, 3, momentum, 0.01, entropy, WarmupCosine("10%"), 30),
        "digits": (datasets.load_digits, 10, torch.optim.AdamW, 1e-3, entropy, WarmupCosine("10%"), 10),
        "diabetes": (datasets.load_diabetes, 1, torch.optim.SGD, 0.01, square, None, 30),
    }
    found: dict[str, Any] = {}
    for name, (bundled, outputs, optimizer, lr, loss, schedule, epochs) in described.items():
        x, y = (torch.tensor(values, dtype=torch.float32) for values in bundled(return_X_y=True))
        y = y.long() if loss is entropy else ((y - y.mean()) / y.std())[:, None]
        net = partial(Net, x.shape[1], outputs, optimizer, lr, loss, schedule)
        found[name] = (net, partial(Data, x, y), epochs)
    x, y = ionosphere()
    sgd = partial(Net, 34, 2, torch.optim.SGD, 0.1, entropy, Linear(end=0.5))
    return {"ionosphere": (sgd, partial(Data, x, y), 50), **found}


def ionosphere() -> tuple[Tensor, Tensor]:
    """Returns the bundled data."""
    batches = list(IonosphereDataModule().predict_dataloader())
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return x, y[:, 0].long()


def sets(wanted: list[str]) -> None:
    """Prints the test loss at the rate of each rule, in multiples of that of the best rate of a dense grid."""
    print(f"{'':<14}{'best rate':>10}{'test loss':>10}   found (multiple)   lr_find (multiple)    valley (multiple)")
    for name, (model, data, epochs) in data_sets().items():
        if wanted and name not in wanted:
            continue
        found = run_quietly(partial(find_lr, model, data, epochs=epochs))
        suggestion, (lrs, losses) = ramp(model, data, seed=0)
        rules = {"found": found.lr, "lr_find": suggestion, "valley": valley(lrs, losses)}
        rates = [*spread(found.table[0]["lr"], found.table[-1]["lr"], DENSE).tolist(), *rules.values()]
        tests = tested(model, data, epochs, rates)
        best = int(np.nanargmin(tests[:DENSE]))
        row = f"{name:<14}{rates[best]:>10.3g}{tests[best]:>10.4f}"
        for (_, rate), loss in zip(rules.items(), tests[DENSE:], strict=True):
            row += f"{rate:>13.3g} ({loss / tests[best]:.3f})"
        print(row, flush=True)


def tested(model: Any, data: Any, epochs: int, rates: list[float]) -> FloatArray:
    """Returns the mean test loss at each rate over the fresh seeds."""
    build = build_from(model, data)
    module: Any
    module, rows = build(0)
    steps = len(rows.train_dataloader())
    factors = (
        np.array(table(module.schedule, Horizon(epochs * steps, steps))) if module.schedule else np.ones(epochs * steps)
    )
    trainings = [Training(seed, rate * factors) for rate in rates for seed in FRESH]
    losses = np.full(len(trainings), np.nan)
    for chunk in VectorizedRace(build, trainings, optimizer=partial(module.optimizer, lr=module.lr), epochs=epochs):
        losses[chunk.runs] = chunk.final["test_loss"]
    means: FloatArray = losses.reshape(len(rates), len(FRESH)).mean(axis=1)
    return means


# --- Speed ------------------------------------------------------------------------------------------------------------


def speed(repeat: int) -> None:
    """Prints how long the command and the call take, against `fit` and `lr_find`."""
    command = [sys.executable, "-m", "lit_lrsched"]
    pairs = take_turns(process(*command, "find"), process(*command, "fit"), repeat)
    tell("the command find, against fit", pairs)
    model, data, epochs = data_sets()["ionosphere"]
    for steps in (None, "100st"):
        ours = partial(seconds, lambda: run_quietly(partial(find_lr, model, data, epochs=epochs, steps=steps)))  # noqa: B023
        pairs = take_turns(ours, partial(seconds, partial(ramp, model, data, 0)), repeat)
        tell(f"find_lr{f' of {steps}' if steps else ''}, against lr_find", pairs)


def tell(what: str, pairs: list[tuple[float, float]]) -> None:
    """Prints the least times and the median of the ratios of neighbours."""
    ours, other = (min(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    print(f"{what:<36}{ours:8.2f} s{other:8.2f} s, median ratio {ratio:.2f}", flush=True)


def run_quietly(work: Callable[[], Any]) -> Any:
    """Returns what some work returns, done in a folder of its own and without what it prints."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as hole, contextlib.redirect_stdout(hole):
        os.chdir(folder)
        try:
            return work()
        finally:
            os.chdir(before)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {"stability": stability, "noise": noise, "sets": sets, "speed": speed}
    parser.add_argument("--only", nargs="*", choices=parts, default=list(parts), help="which parts")
    parser.add_argument("--repeat", type=int, default=100, help="quadratics and noises (default: 100)")
    parser.add_argument("--turns", type=int, default=3, help="turns that speed is measured in (default: 3)")
    parser.add_argument("--sets", nargs="*", default=[], help="which data sets (default: all five)")
    options = parser.parse_args()
    quiet()
    warnings.simplefilter("ignore")
    print(machine())
    for name in options.only:
        parts[name]({"sets": options.sets, "speed": options.turns}.get(name, options.repeat))  # type: ignore[operator]


if __name__ == "__main__":
    main()

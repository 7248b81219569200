"""Measures how fast 200 trainings of ordinary modules run together, against one after another.

The modules: a perceptron with BatchNorm, a GRU, a small convolutional network with BatchNorm, and a transformer
encoder. A training is 50 epochs of 240 rows in batches of 24, with a validation of 48 rows after each.

- plain: a hand-written PyTorch loop that slices its batches from tensors, one training after another.
- fit: ``Trainer.fit`` of the same module, without logger, checkpoints and progress, one training after another.
- together: the vectorized engine; building and tracing its program and drawing every seed's data count.

Sides take turns, and the best of the rounds counts for each, since other programs on the machine only ever slow one
down.

``--sizes`` asks instead how large a module may be before nothing is gained: 32 trainings of 3 epochs, by modules that
grow, against `Trainer.fit` with all threads. The first column is what a step works on for each run.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched.comparison.engine.training import Training
from lit_lrsched.comparison.engine.vectorized import VectorizedRace

EPOCHS = 50
ROWS, VALIDATION, BATCH = 240, 48, 24
SEEDS = 20
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class LastOutput(nn.Module):
    """A GRU and a linear layer on its last output."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, width, batch_first=True)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of sequences ``[B, T, 8]``."""
        return self.head(self.rnn(x)[0][:, -1])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A transformer encoder and a linear layer on the mean of its outputs."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of sequences ``[B, T, width]``."""
        return self.head(self.encoder(x).mean(dim=1))  # type: ignore[no-any-return]


def perceptron() -> nn.Module:
    """Returns a multilayer perceptron with BatchNorm."""
    return nn.Sequential(nn.Linear(34, 34), nn.BatchNorm1d(34), nn.ReLU(), nn.Linear(34, 2))


def convolutions() -> nn.Module:
    """Returns a small convolutional network with BatchNorm."""
    first = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(16, 2))


def wide(width: int) -> nn.Module:
    """Returns a multilayer perceptron with two hidden layers."""
    hidden = (nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return nn.Sequential(*hidden, nn.Linear(width, 2))


def pictures(channels: int) -> nn.Module:
    """Returns a convolutional network as tutorials have it for pictures of 28 by 28."""
    first = (nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Conv2d(channels, 2 * channels, 3), nn.ReLU(), nn.MaxPool2d(2))
    dense = (nn.Linear(288 * channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, 2))
    return nn.Sequential(*first, nn.Flatten(), *dense)


#: By name, what builds the network, and the shape of a row.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (perceptron, (34,)),
    "gru": (LastOutput, (12, 8)),
    "convolutions": (convolutions, (1, 8, 8)),
    "transformer": (Encoder, (12, 8)),
}
#: Likewise, of modules that grow.
GROWING: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{f"perceptron {width}": (partial(wide, width), (64,)) for width in (100, 300, 1000, 2000)},
    **{f"gru {width}": (partial(LastOutput, width), (20, 8)) for width in (64, 256)},
    **{f"convolutions {channels}": (partial(pictures, channels), (1, 28, 28)) for channels in (8, 16, 32)},
    **{f"transformer {width}": (partial(Encoder, width), (16, width)) for width in (32, 128, 256)},
}


class Classifier(LightningModule):
    """Trains a network by cross entropy."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss."""
        x, y = batch
        loss = F.cross_entropy(self.network(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs loss and accuracy."""
        x, y = batch
        logits = self.network(x)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_acc", (logits.argmax(1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns the optimizer."""
        return SGD(self.parameters())


class Rows(LightningDataModule):
    """Random rows of a shape; which class a row is in follows from its mean."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        x = torch.randn(ROWS + VALIDATION, *shape)
        self.parts = [(part[:ROWS], part[ROWS:]) for part in (x, (x.flatten(1).mean(1) > 0).long())]

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the batches of an epoch."""
        return DataLoader(TensorDataset(*(part[0] for part in self.parts)), batch_size=BATCH, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Returns all rows for validation in one batch."""
        return DataLoader(TensorDataset(*(part[1] for part in self.parts)), batch_size=VALIDATION)


def recipe(seed: int, name: str) -> tuple[Classifier, Rows]:
    """Seeds everything and builds module and data."""
    build, shape = (NETWORKS | GROWING)[name]
    seed_everything(seed, verbose=False)
    return Classifier(build()), Rows(shape)


def plain(name: str) -> None:
    """Trains once, by hand."""
    module, data = recipe(0, name)
    network, ((x, x_val), (y, y_val)) = module.network, data.parts
    optimizer = SGD(network.parameters())
    for _ in range(EPOCHS):
        network.train()
        for rows in torch.split(torch.randperm(ROWS), BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x[rows]), y[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        with torch.no_grad():
            logits = network(x_val)
            F.cross_entropy(logits, y_val).item()
            (logits.argmax(1) == y_val).float().mean().item()


def fit(name: str, epochs: int = EPOCHS) -> None:
    """Trains once, with Lightning."""
    module, data = recipe(0, name)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)


def race(name: str, runs: int, epochs: int = EPOCHS) -> VectorizedRace:
    """Trains all together; returns the race."""
    rates = np.linspace(0.1, 0.05, epochs * (ROWS // BATCH))
    trainings = [Training(run % SEEDS, 0.99 ** (run // SEEDS) * rates) for run in range(runs)]
    together = VectorizedRace(partial(recipe, name=name), trainings, optimizer=SGD, epochs=epochs, regardless=True)
    assert sum(len(chunk.runs) for chunk in together) == runs
    return together


def timed(side: Callable[[], object], threads: int) -> float:
    """Returns how long a side takes on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    started = time.perf_counter()
    side()
    elapsed = time.perf_counter() - started
    torch.set_num_threads(before)
    return elapsed


def sizes(threads: int, rounds: int) -> None:
    """Prints what is gained by modules that grow."""
    runs, epochs = 32, 3
    print(f"{runs} trainings, {threads} threads, ms each")
    print(f"{'':18}{'MiB':>8}{'fit':>10}{'together':>10}{'x fit':>10}", flush=True)
    for name in GROWING:
        fit(name, 1)
        each = race(name, runs, 1).bytes_per_run / 2**20
        alone = together = np.inf
        for _ in range(rounds):
            alone = min(alone, *(timed(partial(fit, name, epochs), threads) for _ in range(3)))
            together = min(together, timed(partial(race, name, runs, epochs), threads) / runs)
        print(f"{name:18}{each:8.1f}{1e3 * alone:10.1f}{1e3 * together:10.1f}{alone / together:10.1f}", flush=True)


def main() -> None:
    """Runs all sides and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--sizes", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    if args.sizes:
        sizes(args.threads, args.rounds)
        return
    print(f"{args.runs} trainings, {args.threads} threads, ms each")
    print(f"{'':14}{'plain':>10}{'fit':>10}{'together':>10}{'x plain':>10}{'x fit':>10}", flush=True)
    for name in args.networks:
        fit(name)
        best = dict.fromkeys(("plain", "fit", "together"), np.inf)
        for _ in range(args.rounds):
            # By itself on one thread: more only slow so small a network down.
            best["plain"] = min(best["plain"], *(timed(partial(plain, name), 1) for _ in range(3)))
            best["fit"] = min(best["fit"], timed(partial(fit, name), 1))
            best["together"] = min(best["together"], timed(partial(race, name, args.runs), args.threads) / args.runs)
        row = "".join(f"{1e3 * each:10.2f}" for each in best.values())
        ratios = "".join(f"{best[side] / best['together']:10.1f}" for side in ("plain", "fit"))
        print(f"{name:14}{row}{ratios}", flush=True)


if __name__ == "__main__":
    main()

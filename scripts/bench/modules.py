"""Measures how fast 200 trainings of ordinary modules run together, against one after another.

The modules: a perceptron with BatchNorm, a GRU, a small convolutional network with BatchNorm, and a transformer
encoder. A training is 50 epochs of 240 rows in batches of 24, with a validation of 48 rows after each.

- plain: a hand-written PyTorch loop that slices its batches from tensors, one training after another.
- fit: ``Trainer.fit`` of the same module, without logger, checkpoints and progress, one training after another.
- together: the vectorized engine; building and tracing its program and drawing every seed's data count.

Sides take turns, and the best of the rounds counts for each, since other programs on the machine only ever slow one
down.
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

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of sequences ``[B, T, 8]``."""
        return self.head(self.rnn(x)[0][:, -1])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A transformer encoder and a linear layer on the mean of its outputs."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits of sequences ``[B, T, 8]``."""
        return self.head(self.encoder(x).mean(dim=1))  # type: ignore[no-any-return]


def perceptron() -> nn.Module:
    """Returns a multilayer perceptron with BatchNorm."""
    return nn.Sequential(nn.Linear(34, 34), nn.BatchNorm1d(34), nn.ReLU(), nn.Linear(34, 2))


def convolutions() -> nn.Module:
    """Returns a small convolutional network with BatchNorm."""
    first = (nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    second = (nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(16, 2))


#: By name, what builds the network, and the shape of a row.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "perceptron": (perceptron, (34,)),
    "gru": (LastOutput, (12, 8)),
    "convolutions": (convolutions, (1, 8, 8)),
    "transformer": (Encoder, (12, 8)),
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
    build, shape = NETWORKS[name]
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


def fit(name: str) -> None:
    """Trains once, with Lightning."""
    module, data = recipe(0, name)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data)


def race(name: str, runs: int) -> None:
    """Trains all together."""
    rates = np.linspace(0.1, 0.05, EPOCHS * (ROWS // BATCH))
    trainings = [Training(run % SEEDS, 0.99 ** (run // SEEDS) * rates) for run in range(runs)]
    together = VectorizedRace(partial(recipe, name=name), trainings, optimizer=SGD, epochs=EPOCHS)
    assert sum(len(chunk.runs) for chunk in together) == runs


def timed(side: Callable[[], None], threads: int) -> float:
    """Returns how long a side takes on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    started = time.perf_counter()
    side()
    elapsed = time.perf_counter() - started
    torch.set_num_threads(before)
    return elapsed


def main() -> None:
    """Runs all sides and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

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

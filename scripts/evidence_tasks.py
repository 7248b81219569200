"""The small tasks of the evidence page: data that need no network, a model, an optimizer and the peak rates to try.

Every task is judged by an error, lower is better: the share of wrong labels, the mean squared error of targets whose
variance is 1, or the cross-entropy of the next token. Half of the rows train, a quarter tunes and a quarter tests; the
seed draws the rows or, where the data are given, how they are split.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from sklearn import datasets
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.utils.data import DataLoader, TensorDataset

Array = npt.NDArray[Any]
# Rows ``[N, ...]`` and their labels ``[N]`` (whole numbers) or targets ``[N, T]`` (floats), drawn by a seed.
Table = Callable[[int], tuple[Array, Array]]

_TOKENS, _CONTEXT = 12, 4
_OCTAVES = 5


class Rows(LightningDataModule):
    """The rows of a task. Features and targets have mean 0 and variance 1 over the training rows; tokens stay."""

    def __init__(self, table: Table, batch_size: int = 32, seed: int = 0) -> None:
        super().__init__()
        self.table, self.batch_size, self.seed = table, batch_size, seed

    def setup(self, stage: str | None = None) -> None:
        """Draws and splits the rows."""
        x, y = (torch.from_numpy(part) for part in self.table(self.seed))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        parts = order.tensor_split([len(x) // 2, 3 * len(x) // 4])
        x, y = (_standardized(each, parts[0]) if each.is_floating_point() else each for each in (x, y))
        self.train, self.val, self.test = (TensorDataset(x[rows], y[rows]) for rows in parts)

    def train_dataloader(self) -> Any:
        """Returns batches in random order."""
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        """Returns all validation rows in one batch."""
        return DataLoader(self.val, len(self.val))

    def test_dataloader(self) -> Any:
        """Returns all test rows in one batch."""
        return DataLoader(self.test, len(self.test))


class Net(LightningModule):
    """A network with its optimizer; classification where the labels are whole numbers, else regression.

    Args:
        network: Makes the network.
        optimizer: Makes the optimizer from parameters.
        likelihood: Whether the cross-entropy is the error of a classification, rather than the share of wrong labels.
    """

    def __init__(
        self, network: Callable[[], nn.Module], optimizer: Callable[..., Optimizer], likelihood: bool = False
    ) -> None:
        super().__init__()
        self.network, self.optimizer, self.likelihood = network(), optimizer, likelihood

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        x, y = batch
        return mse_loss(self.network(x), y) if y.is_floating_point() else cross_entropy(self.network(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs ``val_error`` and, for schedules that follow a metric, ``val_loss``."""
        loss, error = self._judge(batch)
        self.log_dict({"val_loss": loss, "val_error": error})

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Logs ``test_error``."""
        self.log("test_error", self._judge(batch)[1])

    def _judge(self, batch: Any) -> tuple[Tensor, Tensor]:
        x, y = batch
        out = self.network(x)
        if y.is_floating_point():
            loss = mse_loss(out, y)
            return loss, loss
        loss = cross_entropy(out, y)
        return loss, loss if self.likelihood else (out.argmax(1) != y).float().mean()

    def configure_optimizers(self) -> Optimizer:
        """Returns the optimizer."""
        return self.optimizer(self.parameters())


class Attention(nn.Module):
    """One block of attention and an MLP over tokens ``[B, L, F]``, and the mean of its outputs ``[B, W]``."""

    def __init__(self, features: int, length: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the mean over the tokens."""
        x = self.embed(x) + self.position
        query, key, value = self.qkv(self.first(x)).chunk(3, dim=-1)
        weights = torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1)
        x = x + self.out(weights @ value)
        x = x + self.mlp(self.second(x))
        return x.mean(dim=1)


@dataclass(frozen=True)
class Task:
    """One race of the page.

    Args:
        about: Data, model and optimizer in words.
        table: The rows.
        network: Makes the network.
        optimizer: Makes the optimizer from parameters.
        lr: About the middle of the peak rates to try.
        epochs: Epochs of a training.
        batch_size: Rows in a batch.
        error: What the error is.
    """

    about: str
    table: Table
    network: Callable[[], nn.Module]
    optimizer: Callable[..., Optimizer]
    lr: float
    epochs: int = 30
    batch_size: int = 32
    error: str = "wrong labels"

    @property
    def model(self) -> Callable[[], LightningModule]:
        """What makes the module."""
        optimizer = partial(self.optimizer, lr=self.lr)
        return partial(Net, self.network, optimizer, likelihood=self.error == "cross-entropy")

    @property
    def data(self) -> Callable[..., LightningDataModule]:
        """What makes the data of a seed."""
        return partial(Rows, self.table, self.batch_size)


def _standardized(x: Tensor, train: Tensor) -> Tensor:
    mean, spread = x[train].mean(dim=0), x[train].std(dim=0)
    return (x - mean) / torch.where(spread > 0, spread, 1.0)


@cache
def _bundled(name: str) -> tuple[Array, Array]:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x.astype(np.float32), y[:, None].astype(np.float32) if name == "diabetes" else y.astype(np.int64)


def _with(name: str, seed: int) -> tuple[Array, Array]:
    return _bundled(name)


@cache
def _all_ionosphere() -> tuple[Array, Array]:
    lines = (files("lit_lrsched") / "ionosphere" / "ionosphere.csv").read_text().splitlines()
    rows = list(csv.reader(lines))
    return np.array([row[:-1] for row in rows], np.float32), np.array([row[-1] == "g" for row in rows], np.int64)


def _ionosphere(seed: int) -> tuple[Array, Array]:
    return _all_ionosphere()


def _moons(seed: int) -> tuple[Array, Array]:
    x, y = datasets.make_moons(800, noise=0.25, random_state=seed)
    return x.astype(np.float32), y.astype(np.int64)


def _hastie(seed: int) -> tuple[Array, Array]:
    x, y = datasets.make_hastie_10_2(1600, random_state=seed)
    return x.astype(np.float32), (y > 0).astype(np.int64)


def _friedman(seed: int) -> tuple[Array, Array]:
    x, y = datasets.make_friedman1(1000, noise=1.0, random_state=seed)
    return x.astype(np.float32), y[:, None].astype(np.float32)


def _spirals(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    spiral, radius = np.arange(1200) % 3, rng.random(1200)
    angle = 4 * radius + spiral * 2 * math.pi / 3 + 0.25 * rng.normal(size=1200)
    return (radius * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32), spiral.astype(np.int64)


@cache
def _all_pixels() -> Array:
    return np.asarray(datasets.load_sample_image("flower.jpg"), np.float32)


def _photo(seed: int) -> tuple[Array, Array]:
    """Colours of 2,000 pixels of a photo, and sines and cosines of where they are."""
    pixels = _all_pixels()
    height, width, _ = pixels.shape
    where = np.random.default_rng(seed).choice(height * width, 2000, replace=False)
    place = np.stack([where // width, where % width], axis=1) / width
    waves = np.concatenate([2.0**k * math.pi * place for k in range(_OCTAVES)], axis=1)
    return np.concatenate([np.sin(waves), np.cos(waves)], axis=1).astype(np.float32), pixels.reshape(-1, 3)[where]


def _tokens(seed: int) -> tuple[Array, Array]:
    """Sequences of a Markov chain of order 2, the same chain for all seeds, and the token that comes next."""
    chain = np.random.default_rng(0).dirichlet(np.full(_TOKENS, 0.2), size=(_TOKENS, _TOKENS)).cumsum(axis=-1)
    rng = np.random.default_rng(seed)
    tokens = rng.integers(_TOKENS, size=(4000, 2))
    for _ in range(_CONTEXT + 4):  # the first ones, which were drawn at random, are left out
        above = rng.random(len(tokens))[:, None] > chain[tokens[:, -2], tokens[:, -1]]
        tokens = np.column_stack([tokens, above.sum(axis=1).clip(max=_TOKENS - 1)])
    return tokens[:, -1 - _CONTEXT : -1].copy(), tokens[:, -1].copy()


def _mlp(*widths: int, activation: type[nn.Module] = nn.ReLU, norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


def _convolutions() -> nn.Module:
    first = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 10))


def _attention() -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (8, 8)), Attention(8, 8, 16), nn.Linear(16, 10))


def _of_tokens() -> nn.Module:
    return nn.Sequential(nn.Embedding(_TOKENS, 8), nn.Flatten(), _mlp(8 * _CONTEXT, 48, _TOKENS))


_MOMENTUM = partial(SGD, momentum=0.9)
_DECAYED = partial(AdamW, weight_decay=0.05)

TASKS: dict[str, Task] = {
    "breast cancer": Task(
        "MLP, SGD with momentum", partial(_with, "breast_cancer"), partial(_mlp, 30, 32, 2), _MOMENTUM, 0.03
    ),
    "wine": Task(
        "MLP with tanh, SGD",
        partial(_with, "wine"),
        partial(_mlp, 13, 16, 3, activation=nn.Tanh),
        SGD,
        0.9,
        batch_size=16,
    ),
    "iris": Task("MLP, Adam", partial(_with, "iris"), partial(_mlp, 4, 16, 3), Adam, 0.15, batch_size=16),
    "ionosphere": Task("MLP, SGD", _ionosphere, partial(_mlp, 34, 34, 2), SGD, 0.3, batch_size=24),
    "moons": Task("MLP, Adam", _moons, partial(_mlp, 2, 24, 2), Adam, 0.06),
    "spirals": Task("MLP with batch norm, AdamW", _spirals, partial(_mlp, 2, 32, 3, norm=True), _DECAYED, 0.05, 20, 64),
    "hastie": Task(
        "MLP with batch norm, SGD with momentum", _hastie, partial(_mlp, 10, 32, 2, norm=True), _MOMENTUM, 0.15, 20, 64
    ),
    "digits": Task(
        "MLP with batch norm, AdamW",
        partial(_with, "digits"),
        partial(_mlp, 64, 32, 10, norm=True),
        _DECAYED,
        0.01,
        15,
        64,
    ),
    "digits convolutions": Task(
        "two convolutions, SGD with momentum", partial(_with, "digits"), _convolutions, _MOMENTUM, 0.05, 10, 64
    ),
    "digits attention": Task(
        "a block of attention, AdamW", partial(_with, "digits"), _attention, _DECAYED, 0.04, 10, 64
    ),
    "diabetes": Task(
        "MLP, AdamW", partial(_with, "diabetes"), partial(_mlp, 10, 24, 1), _DECAYED, 0.005, 20, error="squared error"
    ),
    "friedman": Task(
        "MLP, SGD with momentum", _friedman, partial(_mlp, 10, 32, 1), _MOMENTUM, 0.1, 20, 64, "squared error"
    ),
    "photo": Task(
        "MLP of two layers with GELU, Adam",
        _photo,
        partial(_mlp, 20, 32, 32, 3, activation=nn.GELU),
        Adam,
        0.015,
        20,
        64,
        "squared error",
    ),
    "tokens": Task("embeddings and an MLP, AdamW", _tokens, _of_tokens, _DECAYED, 0.03, 10, 64, "cross-entropy"),
}

"""Ordinary modules, of the kind that tutorials and templates contain, and small data for each: none knows of a race."""

from __future__ import annotations

import copy
import math
import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities import grad_norm
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MaxMetric, MeanMetric, MeanSquaredError, MetricCollection, PearsonCorrCoef, R2Score
from torchmetrics.classification import (
    BinaryAUROC,
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)

CLASSES = 3


class Rows(LightningDataModule):
    """Rows of one kind in three parts; the last training batch is smaller than the others."""

    def __init__(self, kind: str, rows: int = 44, batch_size: int = 16) -> None:
        super().__init__()
        self.kind = kind
        self.rows = rows
        self.batch_size = batch_size

    def setup(self, stage: str) -> None:
        if stage == "fit":
            inputs, targets = KINDS[self.kind](self.rows + 32)
            # The rows stay in order: of a random split the places would be drawn anew for every stage.
            parts = [slice(0, self.rows), slice(self.rows, self.rows + 16), slice(self.rows + 16, None)]
            self.parts = [TensorDataset(inputs[part], targets[part]) for part in parts]

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts[0], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts[1], batch_size=self.batch_size)

    def test_dataloader(self) -> Any:
        return DataLoader(self.parts[2], batch_size=self.batch_size)


def _table(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 8)
    return x, (x @ torch.randn(8, CLASSES)).argmax(1)


def _two_classes(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 8)
    return x, (x @ torch.randn(8) + 0.5 * torch.randn(rows) > 0).long()


def _numbers(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 8)
    return x, (x @ torch.randn(8, 1) + 0.1 * torch.randn(rows, 1)) / 3


def _images(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 2, 6, 6)
    return x, (x.mean((2, 3)) @ torch.randn(2, CLASSES)).argmax(1)


def _sequences(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(rows, 3, 4)
    return x, (x[:, -1] @ torch.randn(4, CLASSES)).argmax(1)


def _tokens(rows: int) -> tuple[Tensor, Tensor]:
    x = torch.randint(1, 12, (rows, 6))
    return x, x[:, 0] % CLASSES


KINDS = {
    "table": _table,
    "two classes": _two_classes,
    "numbers": _numbers,
    "images": _images,
    "sequences": _sequences,
    "tokens": _tokens,
}


class Classifier(LightningModule):
    """What most of them share: cross entropy, accuracy by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.build()

    def build(self) -> None:
        self.net = nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        self.log("val_loss", F.cross_entropy(logits, y), prog_bar=True)
        self.log("val_acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("test_acc", (self(x).argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class BatchNormMLP(Classifier):
    def build(self) -> None:
        self.net = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, CLASSES))


class BatchNormConv(Classifier):
    def build(self) -> None:
        self.features = nn.Sequential(
            nn.Conv2d(2, 6, kernel_size=3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(6 * 9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.features(x), 1))


class InstanceNormConv(Classifier):
    def build(self) -> None:
        self.net = nn.Sequential(
            nn.Conv2d(2, 4, 3),
            nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
            nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, CLASSES),
        )


class DepthwiseBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.norm1(self.depthwise(x)))
        return F.relu(self.norm2(self.pointwise(out)) + x)


class ResNetLike(Classifier):
    def build(self) -> None:
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.blocks = nn.Sequential(DepthwiseBlock(4), nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(dim=[2, 3]))


class GRUClassifier(Classifier):
    def build(self) -> None:
        self.rnn = nn.GRU(4, 6, batch_first=True)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


class LSTMClassifier(Classifier):
    def build(self) -> None:
        self.lstm = nn.LSTM(4, 5, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.head(torch.cat([h[-2], h[-1]], dim=1))


class RNNClassifier(Classifier):
    def build(self) -> None:
        self.rnn = nn.RNN(4, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.zeros(1, x.size(0), 6, device=x.device)
        _, hidden = self.rnn(x.transpose(0, 1), hidden)
        return self.head(hidden.squeeze(0))


class BagOfWords(Classifier):
    def build(self) -> None:
        self.words = nn.EmbeddingBag(12, 6, mode="mean")
        self.position = nn.Embedding(6, 6, padding_idx=0)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        first = self.position(x[:, 0].clamp(max=5))
        return self.head(self.words(x) + first)


class Transformer(Classifier):
    def build(self) -> None:
        self.embedding = nn.Embedding(12, 8)
        position = torch.arange(6).unsqueeze(1)
        frequency = torch.exp(torch.arange(0, 8, 2) * (-math.log(10000.0) / 8))
        table = torch.zeros(6, 8)
        table[:, 0::2] = torch.sin(position * frequency)
        table[:, 1::2] = torch.cos(position * frequency)
        self.register_buffer("table", table)
        layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=12, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=1)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(x) * math.sqrt(8) + self.table).mean(dim=1))


class LoggedAccuracy(Classifier):
    """The metric objects of Lightning's own tutorial: one a stage, logged as objects."""

    def build(self) -> None:
        super().build()
        self.train_acc = MulticlassAccuracy(CLASSES)
        self.val_acc = MulticlassAccuracy(CLASSES, average="micro")
        self.test_acc = MulticlassAccuracy(CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        self.train_acc(logits, y)
        self.log("train_acc", self.train_acc, on_step=False, on_epoch=True)
        self.log("train_acc_step", self.train_acc)
        return F.cross_entropy(logits, y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.val_acc(self(x), y)
        self.log("val_acc", self.val_acc, on_step=True, on_epoch=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.test_acc.update(self(x), y)
        self.log("test_acc", self.test_acc)


class Collected(Classifier):
    """A collection that is cloned for each stage, and logged at once."""

    def build(self) -> None:
        super().build()
        metrics = MetricCollection(
            [MulticlassF1Score(CLASSES), MulticlassPrecision(CLASSES), MulticlassRecall(CLASSES)]
        )
        self.train_metrics = metrics.clone(prefix="train_")
        self.valid_metrics = metrics.clone(prefix="val_")

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        values = self.train_metrics(logits, y)
        self.log_dict(values, on_step=False, on_epoch=True)
        return F.cross_entropy(logits, y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.valid_metrics.update(self(x), y)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.valid_metrics.compute())
        self.valid_metrics.reset()


class Ranked(Classifier):
    """AUROC keeps every batch of the epoch."""

    def build(self) -> None:
        self.net = nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, 1))
        self.auroc = BinaryAUROC()
        self.train_auroc = BinaryAUROC()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x).squeeze(1)
        self.train_auroc.update(logits, y)
        self.log("train_auroc", self.train_auroc, on_step=False, on_epoch=True)
        return F.binary_cross_entropy_with_logits(logits, y.float())

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x).squeeze(1)
        self.auroc(logits, y)
        self.log("val_auroc", self.auroc)
        self.log("val_loss", F.binary_cross_entropy_with_logits(logits, y.float()))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("test_acc", ((self(x).squeeze(1) > 0) == y).float().mean())


class LeftOut(Classifier):
    """Metrics that choose rows by their values."""

    def build(self) -> None:
        super().build()
        self.val_f1 = MulticlassF1Score(CLASSES, ignore_index=0)
        self.val_pearson = PearsonCorrCoef()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        self.val_f1(logits, y)
        self.log("val_f1", self.val_f1)
        self.val_pearson.update(logits[:, 0], y.float())

    def on_validation_epoch_end(self) -> None:
        self.log("val_pearson", self.val_pearson.compute())
        self.val_pearson.reset()


class Regressor(Classifier):
    def build(self) -> None:
        self.net = nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.LayerNorm(10), nn.Linear(10, 1))
        self.mse = MeanSquaredError()
        self.r2 = R2Score()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.mse_loss(self(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        predicted = self(x)
        self.mse(predicted, y)
        self.r2(predicted, y)
        self.log("val_mse", self.mse)
        self.log("val_r2", self.r2, on_step=False, on_epoch=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("test_mae", (self(x) - y).abs().mean())


class EveryThirdBatch(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        if batch_idx % 3 == 0:
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            self.log("entropy", -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean(), on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        if batch_idx == 0:
            self.log("first_loss", F.cross_entropy(self(x), y))
        super().validation_step(batch, batch_idx)


class Annealed(Classifier):
    """A penalty that grows over the first epochs, and one that begins later."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        beta = min(1.0, (self.current_epoch + 1) / 4)
        penalty = logits.pow(2).mean()
        loss = F.cross_entropy(logits, y) + 0.1 * beta * penalty
        if self.current_epoch >= 1:
            loss = loss + 0.01 * self.net[0].weight.abs().sum()
        self.log("beta", torch.tensor(beta))
        self.log_dict({"train_loss": loss, "penalty": penalty}, on_step=False, on_epoch=True)
        return loss


class ListsOfOutputs(Classifier):
    def build(self) -> None:
        super().build()
        self.training_step_outputs: list[dict[str, Any]] = []
        self.validation_step_outputs: list[dict[str, Tensor]] = []
        self.test_step_outputs: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.training_step_outputs.append({"loss": loss.detach(), "rows": x.size(0)})
        return loss

    def on_train_epoch_end(self) -> None:
        rows = sum(output["rows"] for output in self.training_step_outputs)
        self.log(
            "train_loss_mean", sum(output["loss"] * output["rows"] for output in self.training_step_outputs) / rows
        )
        self.training_step_outputs.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        self.validation_step_outputs.append({"logits": logits, "y": y, "share": (batch_idx + 1) / 2})

    def on_validation_epoch_end(self) -> None:
        logits = torch.cat([output["logits"] for output in self.validation_step_outputs])
        y = torch.cat([output["y"] for output in self.validation_step_outputs])
        wrong = y[logits.argmax(1) != y]
        self.log("val_wrong_of_class_0", float((wrong == 0).sum().item()))
        self.log("val_share", sum(output["share"] for output in self.validation_step_outputs))
        self.log("val_loss", F.cross_entropy(logits, y))
        self.validation_step_outputs = []

    def test_step(self, batch: Any, batch_idx: int) -> None:
        super().test_step(batch, batch_idx)
        self.test_step_outputs.append(self(batch[0]))

    def on_test_epoch_end(self) -> None:
        self.log("test_logit", torch.cat(self.test_step_outputs).max())  # they stay: it is the only test


class History:
    """What was seen so far, as projects keep it for themselves."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.by_name: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.values.append(value.item())
            self.by_name[name].append(value)


class ListsWithin(Classifier):
    """Appends to lists in a dict and in objects of its own."""

    def build(self) -> None:
        super().build()
        self.losses: dict[str, list[float]] = {"train": [], "val": []}
        self.history = History()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.losses["train"].append(loss.item())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        self.losses["val"].append(F.cross_entropy(logits, y).item())
        self.history.add(spread=logits.std(), most=logits.max())

    def on_validation_epoch_end(self) -> None:
        for name, values in self.history.by_name.items():
            self.log(f"val_{name}", torch.stack(values).mean())
        self.log("val_seen", sum(self.history.values) / len(self.history.values))
        self.history = History()
        self.log_mean("val")

    def on_train_epoch_end(self) -> None:
        self.log_mean("train")

    def log_mean(self, stage: str) -> None:
        self.log(f"{stage}_loss", sum(self.losses[stage]) / len(self.losses[stage]))
        self.losses[stage].clear()


class ListsBegunAnew(Classifier):
    """Begins lists when an epoch does, and leaves them full at its end."""

    def on_train_epoch_start(self) -> None:
        self.train_losses: list[Tensor] = []

    def on_validation_epoch_start(self) -> None:
        self.val_losses: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.train_losses.append(loss.detach())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.val_losses.append(F.cross_entropy(self(batch[0]), batch[1]))

    def on_train_epoch_end(self) -> None:
        train, val = torch.stack(self.train_losses).mean(), torch.stack(self.val_losses).mean()
        self.log_dict({"train_loss": train, "gap": val - train})

    def on_test_start(self) -> None:
        self.predictions: list[Tensor] = []

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.predictions.append(self(batch[0]).argmax(1))

    def on_test_epoch_end(self) -> None:
        self.log("test_class", torch.cat(self.predictions).float().mean())


class LoggedItems(Classifier):
    """Takes its numbers out of tensors, as tutorials do."""

    def build(self) -> None:
        super().build()
        self.losses: list[float] = []
        self._outputs: list[dict[str, Any]] = []
        self.mean_loss = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        before = loss.item()
        self.losses.append(before)
        self.mean_loss(before)
        size = 0.0
        for parameter in self.parameters():
            size += parameter.pow(2).sum().item()
        other = before
        other += 1
        loss += 1e-3 * size * logits.pow(2).mean()
        self.log_dict({"train_loss": before, "size": size, "other": other / 2 - abs(-before)})
        self.log("mean_loss", self.mean_loss, on_step=False, on_epoch=True)
        self.log_dict(
            {"rounded": round(before, 3), "listed": loss.tolist(), "step": torch.tensor(self.global_step * 1.0)}
        )
        return loss / (1 + before)

    def on_train_epoch_end(self) -> None:
        self.log("train_sum", sum(self.losses) / len(self.losses))
        self.log("train_mean", np.mean(self.losses))
        self.log("train_tensor", torch.tensor(self.losses).mean())
        self.losses.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        right = torch.sum(logits.argmax(1) == y).item()
        self.log("val_acc", torch.tensor(right / (len(y) * 1.0)))
        self._outputs.append({"loss": F.cross_entropy(logits, y).item(), "right": right})

    def on_validation_epoch_end(self) -> None:
        best = min(output["loss"] for output in self._outputs)  # which only a single run can tell
        self.log("val_loss", best if best > 0.5 else -best)
        self.log("val_right", statistics.mean(output["right"] for output in self._outputs))
        self._outputs = []


class Meter:
    """An average, as projects write it for themselves."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, value: float, rows: int = 1) -> None:
        self.total += value * rows
        self.count += rows

    @property
    def mean(self) -> float:
        return self.total / self.count


class Counting(Classifier):
    """Counts for itself: in attributes, in a dict, in a list, in objects that are emptied or made anew."""

    def build(self) -> None:
        super().build()
        self.correct = self._total = self.seen = 0
        self.scale, self.best = 1.0, 1e9
        self.sums: dict[str, Any] = {"train": {"loss": 0.0, "rows": 0}}
        self.pair = [0.0, 0.0]
        self.meter = self.same_meter = Meter()

    def on_train_epoch_start(self) -> None:
        self.pair = [0.0, 0.0]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.seen += len(y)
        self.scale = 0.9 * self.scale + 0.1 * loss.item()
        self.sums["train"]["loss"] += loss.item() * len(y)
        self.sums["train"]["rows"] += len(y)
        self.pair[0] += loss.item()
        self.pair[1] += 1
        self.same_meter.update(loss.item(), len(y))
        return loss / self.scale * (1 + self.seen / 1000)

    def on_train_epoch_end(self) -> None:
        sums = self.sums["train"]
        self.log_dict({"of_dict": sums["loss"] / sums["rows"], "of_list": self.pair[0] / self.pair[1]})
        self.log_dict({"of_meter": self.meter.mean, "seen": float(self.seen)})
        sums["loss"], sums["rows"] = 0.0, 0
        self.meter = self.same_meter = Meter()

    def on_validation_epoch_start(self) -> None:
        self.correct = self._total = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        self.correct += (logits.argmax(1) == y).sum().item()
        self._total += len(y)
        self.log("val_loss", F.cross_entropy(logits, y) * (1 + self.seen / 1000))

    def on_validation_epoch_end(self) -> None:
        accuracy = self.correct / self._total
        self.log("val_acc", accuracy)
        if self.seen:  # not in a trial run before training
            self.best = min(self.best, 1 - accuracy)
        self.log("val_best", self.best)

    def on_test_epoch_start(self) -> None:
        self.correct = self._total = 0

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.correct += (self(batch[0]).argmax(1) == batch[1]).sum().item()
        self._total += len(batch[1])

    def on_test_epoch_end(self) -> None:
        self.log("test_acc", self.correct / self._total)
        self.log("test_seen", float(self.seen))


class Templated(Classifier):
    """As a well-known template has it: the layers among the hyperparameters, metrics reset, the best value so far."""

    def __init__(self, net: nn.Module | None = None, compile: bool = False) -> None:
        net = net or nn.Sequential(nn.Linear(8, 10, bias=False), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, CLASSES))
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = net

    def setup(self, stage: str) -> None:
        if self.hparams.compile and stage == "fit":
            self.net = torch.compile(self.net)

    def build(self) -> None:
        self.train_loss = MeanMetric()
        self.val_acc = MulticlassAccuracy(CLASSES, average="micro")
        self.val_acc_best = MaxMetric()

    def on_train_start(self) -> None:
        self.val_acc.reset()
        self.val_acc_best.reset()

    def on_train_epoch_start(self) -> None:
        self.log("epoch_number", float(self.current_epoch))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.train_loss(loss)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.val_acc(torch.argmax(self(x), dim=1), y)
        self.log("val/acc", self.val_acc, on_step=False, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        acc = self.val_acc.compute()
        self.val_acc_best(acc)
        self.log("val/acc_best", self.val_acc_best.compute(), sync_dist=True, prog_bar=True)


class FrozenAndTied(Classifier):
    """An autoencoder with tied weights behind a frozen layer."""

    def build(self) -> None:
        self.backbone = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.backbone.requires_grad_(False)
        self.backbone.eval()
        self.encoder = nn.Linear(8, 8, bias=False)
        self.decoder = nn.Linear(8, 8, bias=False)
        self.decoder.weight = self.encoder.weight

    def loss(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.backbone(x)
        return F.mse_loss(self.decoder(torch.tanh(self.encoder(features))), features)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch[0])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch[0]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch[0]))


class TwoHeads(Classifier):
    """Two losses, one step for all stages, a dictionary that is returned."""

    def build(self) -> None:
        self.trunk = nn.Sequential(nn.Linear(8, 10), nn.ELU())
        self.classes = nn.Linear(10, CLASSES)
        self.size = nn.Linear(10, 1)

    def _shared_step(self, batch: Any, stage: str) -> dict[str, Tensor]:
        x, y = batch
        hidden = self.trunk(x)
        logits = self.classes(hidden)
        ce = F.cross_entropy(logits, y, label_smoothing=0.1)
        mse = F.smooth_l1_loss(self.size(hidden).squeeze(-1), x.norm(dim=1))
        loss = ce + 0.5 * mse
        # One hot, and a mask that is written to.
        weights = torch.ones_like(logits)
        weights[F.one_hot(y, CLASSES) == 0] = 0.0
        share = (weights * logits.softmax(1)).sum(1).mean()
        self.log_dict({f"{stage}_loss": loss, f"{stage}_ce": ce, f"{stage}_mse": mse, f"{stage}_share": share})
        return {"loss": loss, "ce": ce.detach(), "logits": logits.detach()}

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self._shared_step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self._shared_step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        return self._shared_step(batch, "test")


class Denoising(Classifier):
    """Noise, a mask and mixup, drawn in the step and in hooks in ways that leave no trace in the result."""

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        for parameter in self.parameters():
            parameter.grad += 0.0 * torch.randn_like(parameter.grad)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.add_(torch.rand(parameter.shape), alpha=0.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        x = x + 0.0 * torch.randn_like(x)
        mask = torch.bernoulli(torch.full_like(x, 1.0)) * (torch.rand(x.shape[0], 1, device=x.device) < 2)
        order = torch.randperm(x.size(0), device=x.device)
        x, y = (x * mask)[order], y[order]
        lam = torch.empty(1, device=x.device).fill_(0.7)
        mixed = lam * x + (1 - lam) * x[torch.randint(0, 1, (len(x),)) + torch.arange(len(x))]
        loss = F.cross_entropy(self(F.dropout(mixed, p=0.0)), y)
        self.log("train_loss", loss)
        return loss


def hot_by_hand(module: Any, x: Tensor, y: Tensor) -> Tensor:
    hot = torch.zeros(len(x), CLASSES, device=x.device).scatter_(1, y[:, None], 1.0)
    return F.mse_loss(module(x), hot)


def filled_by_hand(module: Any, x: Tensor, y: Tensor) -> Tensor:
    outputs = torch.empty(len(x), 2, CLASSES)
    for place in range(2):
        outputs[:, place] = module(x) * (place + 1)
    hot = torch.zeros(len(x), CLASSES)
    hot[torch.arange(len(x)), y] = 1.0
    return F.mse_loss(outputs.mean(1), hot)


def added_up(module: Any, x: Tensor, y: Tensor) -> Tensor:
    loss = torch.tensor(0.0)
    for part in (x, 2 * x):
        loss += F.cross_entropy(module(part), y)
    return loss


def contrastive(module: Any, x: Tensor, y: Tensor) -> Tensor:
    z = F.normalize(module(x), dim=1)
    alike = z @ z.T
    others = alike[~torch.eye(len(x), dtype=torch.bool, device=x.device)].view(len(x), -1)
    return others.logsumexp(1).mean() - alike[torch.arange(len(x)), torch.arange(len(x)).roll(1)].mean()


def mixed(module: Any, x: Tensor, y: Tensor) -> Tensor:
    order = torch.arange(len(x)).flip(0)
    return F.cross_entropy(module(0.7 * x + 0.3 * x[order]), y) + F.cross_entropy(module(x), y[order])


def by_distributions(module: Any, x: Tensor, y: Tensor) -> Tensor:
    logits = module(x)
    near = torch.distributions.Normal(logits, logits.exp() + 0.1)
    prior = torch.distributions.Normal(torch.zeros_like(logits), torch.ones_like(logits))
    likely = torch.distributions.Categorical(logits=logits).log_prob(y)
    return torch.distributions.kl_divergence(near, prior).mean() - likely.mean()


def by_the_trainer(module: Any, x: Tensor, y: Tensor) -> Tensor:
    trainer = module.trainer
    if trainer.training:
        for place, group in enumerate(module.optimizers().param_groups):
            module.log(f"lr_{place}", group["lr"])
        module.log("lr", trainer.optimizers[0].param_groups[0]["lr"], on_step=False, on_epoch=True)
        module.print("in training")
        if not trainer.is_last_batch:
            x = module.all_gather(x)
        if module.global_step % trainer.log_every_n_steps == 0:
            module.log("started", 1.0)
        x = x * (1 + module.global_step / trainer.estimated_stepping_batches)
    share = (module.global_step + trainer.current_epoch) / (trainer.max_epochs * trainer.num_training_batches)
    return F.cross_entropy(module(x), y) * (1 + share)


def distilled(module: Any, x: Tensor, y: Tensor) -> Tensor:
    logits, teacher = module(x).log_softmax(1), (2 * x[:, :CLASSES]).log_softmax(1)
    pairs = [(F.kl_div(logits, teacher.exp(), reduction=reduction)) for reduction in ("batchmean", "sum")]
    return sum(pairs, F.kl_div(logits, teacher, reduction="none", log_target=True).mean())


def triplets(module: Any, x: Tensor, y: Tensor) -> Tensor:
    z = module(x)
    three = z, z.roll(1, 0), z.roll(2, 0)
    return F.triplet_margin_loss(*three) + F.triplet_margin_loss(*three, margin=0.5, p=1, swap=True, reduction="sum")


def clamped(module: Any, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        module.net[0].weight.clamp_(-0.2, 0.2)
    return F.cross_entropy(module(x), y)


#: Losses in ways that torch.func cannot follow as they stand.
def with_a_dimension(module: Any, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(module(x), y).reshape(1)


LOSSES = {
    loss.__name__: loss
    for loss in (
        *(hot_by_hand, filled_by_hand, added_up, contrastive, mixed, distilled, triplets),
        *(by_distributions, by_the_trainer, clamped, with_a_dimension),
    )
}


class WithLoss(Classifier):
    """Trains and validates with one of them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.loss_of = LOSSES[name]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss_of(self, *batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss_of(self, *batch))


class ChannelsLast(Classifier):
    def build(self) -> None:
        self.features = nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x.to(memory_format=torch.channels_last))
        return self.head(x.contiguous(memory_format=torch.channels_last).mean((2, 3)))


class Cells(Classifier):
    """Steps through a sequence by hand."""

    def build(self) -> None:
        self.cells = nn.ModuleList(
            [nn.GRUCell(4, 5), nn.LSTMCell(5, 5, bias=False), nn.RNNCell(5, 5), nn.RNNCell(5, 5, nonlinearity="relu")]
        )
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states: list[Any] = [None] * 4
        for step in x.unbind(1):
            for place, cell in enumerate(self.cells):
                states[place] = cell(step, states[place])
                step = states[place][0] if place == 1 else states[place]
        return self.head(step)


class Parametrized(Classifier):
    def build(self) -> None:
        first = nn.utils.parametrizations.weight_norm(nn.Linear(8, 6))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the older way, which many still have
            second = nn.utils.weight_norm(nn.Linear(6, 6), dim=None)
            third = nn.utils.spectral_norm(nn.Linear(6, 6))
        fourth = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
        self.pair = nn.Bilinear(6, 6, CLASSES)
        self.net = nn.Sequential(first, nn.ReLU(), second, nn.Tanh(), third, nn.Tanh(), fourth)

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return self.pair(z, z.roll(1, 0))


class Pretrained(Classifier):
    """Adds encodings of positions, and ends in a frozen layer: both are the same for every seed."""

    def build(self) -> None:
        same = torch.Generator().manual_seed(0)
        self.embed = nn.Embedding(12, 8)
        self.register_buffer("positions", torch.randn(1000, 8, generator=same))
        self.inner = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES).requires_grad_(False)
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=same))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + torch.sigmoid(self.positions[: x.shape[1]])
        return self.head(self.inner(x).relu().mean(1))


class Sized(nn.Module):
    """Notes how wide its input is."""

    def forward(self, x: Tensor) -> Tensor:
        self.width = x.shape[1]
        return x / self.width


class FrozenStatistics(Classifier):
    """Linear layers in a row, and statistics that every epoch keeps as they are."""

    def build(self) -> None:
        self.net = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), Sized(), nn.Linear(10, 6), nn.Linear(6, CLASSES))

    def on_train_epoch_start(self) -> None:
        self.net[1].eval()


class SetUp(Classifier):
    """Makes its layers when it knows the data, standardizes by them, and asks how long training will be."""

    def build(self) -> None:
        self.net = None

    def setup(self, stage: str) -> None:
        if self.net is None:
            self.net = nn.Linear(8, CLASSES)
        if stage == "fit":
            self.register_buffer("mean", self.trainer.datamodule.parts[0].tensors[0].mean(0))
            self.steps = self.trainer.estimated_stepping_batches

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x - self.mean)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * (1 - 0.5 * self.global_step / self.steps)


class MomentumEncoder(Classifier):
    """Learns from a second network, which follows the first in every step."""

    def build(self) -> None:
        super().build()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)

    @torch.no_grad()
    def follow(self) -> None:
        for slow, quick in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
            slow.data = slow.data * 0.9 + quick.data * 0.1

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.follow()
        return super().training_step(batch, batch_idx) + F.mse_loss(self(batch[0]), self.teacher(batch[0]))


class MomentumAtOnce(MomentumEncoder):
    """Changes all weights of the second network at once, ever less, as libraries of self-supervised learning do."""

    @torch.no_grad()
    def follow(self) -> None:
        momentum = 1 - 0.1 * (np.cos(np.pi * self.current_epoch / 4) + 1) / 2
        slow, quick = [*self.teacher.parameters()], [*self.net.parameters()]
        torch._foreach_mul_(slow, momentum)
        torch._foreach_add_(slow, quick, alpha=1 - momentum)


class Averaged(MomentumEncoder):
    """Validates with averaged weights, which it takes for the test."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return Classifier.training_step(self, batch, batch_idx)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        with torch.no_grad():
            for slow, quick in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                slow.lerp_(quick, 0.1)
        self.log("loss_again", outputs["loss"], on_epoch=True)
        self.log("steps", float(self.global_step))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self.teacher(batch[0]), batch[1]))

    def on_train_end(self) -> None:
        self.net.load_state_dict(self.teacher.state_dict())


class AveragedModels(Classifier):
    """Averages by torch's class of that name, in both of its ways and with running statistics, and tests with one."""

    def build(self) -> None:
        self.net = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, CLASSES))
        self.quick = AveragedModel(self.net, avg_fn=get_ema_avg_fn(0.8), use_buffers=True)
        self.slow = AveragedModel(self.net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        self.even = AveragedModel(self.net)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.quick.update_parameters(self.net)
        self.slow.update_parameters(self.net)
        if self.current_epoch > 0:
            self.even.update_parameters(self.net)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        for name, model in (("quick", self.quick), ("slow", self.slow), ("even", self.even)):
            self.log(f"val_loss_{name}", F.cross_entropy(model(batch[0]), batch[1]))
        self.log("averaged", self.slow.n_averaged.float())

    def on_train_end(self) -> None:
        self.net.load_state_dict(self.even.module.state_dict())


class TargetNetwork(MomentumEncoder):
    """Copies its weights once an epoch, from the second on, to what is zero for every seed until then."""

    def build(self) -> None:
        super().build()
        with torch.no_grad():
            for parameter in self.teacher.parameters():
                parameter.zero_()

    def follow(self) -> None:
        """Does not: see below."""

    def on_train_epoch_start(self) -> None:
        if self.current_epoch > 0:
            self.teacher.load_state_dict(self.net.state_dict())


class Gathered(Classifier):
    """Scales its batches beforehand, and gathers what its validation returns in a hook after each batch."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Any] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        batch[0].mul_(0.5)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        super().validation_step(batch, batch_idx)
        return {"logits": self(batch[0]), "y": batch[1]}

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.outputs.append(outputs)

    def on_validation_epoch_end(self) -> None:
        logits, y = (torch.cat([output[key] for output in self.outputs]) for key in ("logits", "y"))
        self.log("val_cross_entropy", F.cross_entropy(logits, y))
        self.outputs.clear()


class GradientNorms(Classifier):
    """Logs the norms of its gradients, clips them by hand, and keeps its weights small."""

    def on_after_backward(self) -> None:
        self.log("largest", torch.stack([p.grad.abs().max() for p in self.parameters()]).max())

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.log_dict(grad_norm(self, norm_type=2))
        nn.utils.clip_grad_norm_(self.parameters(), 0.1)
        self.log("rate", optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        for parameter in self.parameters():
            parameter.data.clamp_(-0.3, 0.3)


class KeptOfABatch(Classifier):
    """Keeps tensors of a batch in attributes: for its loss, for hooks, and by a hook of a layer."""

    def build(self) -> None:
        super().build()
        self.start = None
        self.net[0].register_forward_hook(lambda layer, inputs, output: setattr(self, "activations", output))

    def forward(self, x: Tensor) -> Tensor:
        self.logits = super().forward(x)
        return self.logits

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.start = batch[0].mean()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.loss = super().training_step(batch, batch_idx)
        return self.loss * (1 + self.start) + 0.01 * self.activations.pow(2).mean()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradient = self.loss * self.net[2].bias.grad.norm()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        right = (self.logits.argmax(1) == batch[1]).float().mean()
        self.log_dict({"right": right, "loss_again": self.loss, "gradient": self.gradient}, on_epoch=True)
        self.start = None

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("val_size", self.logits.norm())


class ClippedByItself(Averaged):
    """Clips its gradients more tightly as it goes on, and averages its weights before they are set to zero."""

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any) -> None:
        most = 0.1 if self.current_epoch == 0 else 0.05
        self.clip_gradients(optimizer, gradient_clip_val=most, gradient_clip_algorithm="norm")
        self.clip_gradients(optimizer, gradient_clip_val=0.02, gradient_clip_algorithm="value")
        self.clip_gradients(optimizer, gradient_clip_val=gradient_clip_val)  # which is None: not at all

    def on_train_batch_end(self, *_: Any) -> None:
        """Has nothing left to do."""

    def on_before_zero_grad(self, optimizer: Any) -> None:
        super().on_train_batch_end({"loss": optimizer.param_groups[0]["lr"]}, None, 0)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad(set_to_none=True)


class VAE(Classifier):
    def build(self) -> None:
        self.encoder = nn.Linear(8, 4)
        self.decoder = nn.Linear(2, 8)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.elbo(batch[0])
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def elbo(self, x: Tensor) -> Tensor:
        mu, log_var = self.encoder(x).chunk(2, dim=1)
        std = torch.exp(0.5 * log_var)
        z = mu + torch.randn_like(std) * std
        kl = -0.5 * (1 + log_var - mu**2 - log_var.exp()).sum(1).mean()
        return F.mse_loss(self.decoder(z), x) + 0.01 * kl

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.elbo(batch[0]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.elbo(batch[0]))


class Branching(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss / 2 if loss > 1 else loss


class OwnOrder(Rows):
    """Shuffles by a generator of its own, which what a step draws does not move."""

    def train_dataloader(self) -> Any:
        generator = torch.Generator().manual_seed(7)
        return DataLoader(self.parts[0], batch_size=self.batch_size, shuffle=True, generator=generator)


@dataclass(frozen=True)
class Ordinary:
    """A module, the kind of rows it trains on, and whether its draws show in its results."""

    module: type[LightningModule]
    kind: str
    random: bool = False
    data: Callable[[str], LightningDataModule] = Rows

    def make(self) -> tuple[LightningModule, LightningDataModule]:
        return self.module(), self.data(self.kind)


#: Those that train together, by name.
TOGETHER = {
    entry.module.__name__: entry
    for entry in (
        Ordinary(BatchNormMLP, "table"),
        Ordinary(BatchNormConv, "images"),
        Ordinary(InstanceNormConv, "images"),
        Ordinary(ResNetLike, "images"),
        Ordinary(ChannelsLast, "images"),
        Ordinary(Cells, "sequences"),
        Ordinary(Pretrained, "tokens"),
        Ordinary(FrozenStatistics, "table"),
        Ordinary(Parametrized, "table"),
        Ordinary(GRUClassifier, "sequences"),
        Ordinary(LSTMClassifier, "sequences"),
        Ordinary(RNNClassifier, "sequences"),
        Ordinary(BagOfWords, "tokens"),
        Ordinary(Transformer, "tokens"),
        Ordinary(LoggedAccuracy, "table"),
        Ordinary(Collected, "table"),
        Ordinary(Ranked, "two classes"),
        Ordinary(LeftOut, "table"),
        Ordinary(Regressor, "numbers"),
        Ordinary(EveryThirdBatch, "table"),
        Ordinary(Annealed, "table"),
        Ordinary(ListsOfOutputs, "table"),
        Ordinary(ListsWithin, "table"),
        Ordinary(ListsBegunAnew, "table"),
        Ordinary(LoggedItems, "table"),
        Ordinary(Counting, "table"),
        Ordinary(Templated, "table"),
        Ordinary(FrozenAndTied, "table"),
        Ordinary(TwoHeads, "table"),
        Ordinary(Denoising, "table", data=OwnOrder),
        Ordinary(SetUp, "table"),
        Ordinary(MomentumEncoder, "table"),
        Ordinary(MomentumAtOnce, "table"),
        Ordinary(Averaged, "table"),
        Ordinary(AveragedModels, "table"),
        Ordinary(TargetNetwork, "table"),
        Ordinary(Gathered, "table"),
        Ordinary(GradientNorms, "table"),
        Ordinary(ClippedByItself, "table"),
        Ordinary(KeptOfABatch, "table"),
        Ordinary(VAE, "table", random=True),
    )
}

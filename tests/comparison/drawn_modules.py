"""Modules put together at random from what projects contain, and their data: none knows of a race."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, WeightedRandomSampler, default_collate
from torchmetrics import MaxMetric, MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassAUROC, MulticlassF1Score, MulticlassRecall

from lit_lrsched import WarmupCosine, schedule_config
from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.regime import PLAIN, Regime
from tests.comparison.ordinary_modules import CLASSES, Rows


class At(NamedTuple):
    """What a step is about."""

    stage: str
    y: Tensor
    logits: Tensor
    index: int


class Base(LightningModule):
    """A classifier as it was drawn; parts extend its methods."""

    def __init__(self, drawn: Drawn) -> None:
        super().__init__()
        self.drawn = drawn
        self.net = LAYERS[drawn.layers][1]()
        self.build()

    def build(self) -> None:
        """Makes what a part needs."""

    def loss(self, at: At) -> Tensor:
        return sum((TERMS[term](self, at) for term in self.drawn.terms), LOSSES[self.drawn.loss](at))

    def record(self, at: At, loss: Tensor) -> None:
        self.log(f"{at.stage}_loss", loss)
        for logged in self.drawn.logged:
            LOGGED[logged](self, at, loss)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self._step("train", batch, batch_idx)
        return {"loss": loss, "name": "step"} if self.drawn.shape == "dict" else loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._step("val", batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self._step("test", batch, batch_idx)

    def _step(self, stage: str, batch: Any, index: int) -> Tensor:
        x, y = (batch["x"], batch["y"]) if isinstance(batch, dict) else batch[:2]
        at = At(stage, y, self.net(x), index)
        loss = self.loss(at)
        self.record(at, loss)
        return loss

    def configure_optimizers(self) -> Any:
        return SCHEDULES[self.drawn.schedule](self, OPTIMIZERS[self.drawn.optimizer](self))


class Last(nn.Module):
    """The last state of a GRU."""

    def forward(self, states: Any) -> Tensor:
        return states[0][:, -1]


def tied() -> nn.Module:
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second, nn.Tanh(), nn.Linear(8, CLASSES))


#: The rows that go with it, and the layers. No bias comes before a norm: its gradient would be rounding alone.
LAYERS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "plain": ("table", lambda: nn.Sequential(nn.Linear(8, 10), nn.Tanh(), nn.Linear(10, CLASSES))),
    "batch norm": (
        "table",
        lambda: nn.Sequential(
            *(nn.Linear(8, 10, bias=False), nn.BatchNorm1d(10), nn.ReLU(), nn.Dropout(0.0), nn.Linear(10, CLASSES))
        ),
    ),
    "layer norm": ("table", lambda: nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.LayerNorm(10), nn.Linear(10, 3))),
    "convolutions": (
        "images",
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.GELU(), nn.AvgPool2d(2)),
            *(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(36, CLASSES)),
        ),
    ),
    "recurrent": ("sequences", lambda: nn.Sequential(nn.GRU(4, 6, batch_first=True), Last(), nn.Linear(6, CLASSES))),
    "attention": (
        "tokens",
        lambda: nn.Sequential(
            *(
                nn.Embedding(12, 8, padding_idx=1),
                nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True, bias=False),
            ),
            *(nn.Flatten(), nn.Linear(48, CLASSES)),
        ),
    ),
    "tied": ("table", tied),
    "frozen": ("table", lambda: nn.Sequential(nn.Linear(8, 8).requires_grad_(False), nn.Tanh(), nn.Linear(8, CLASSES))),
}
LOSSES: dict[str, Callable[[At], Tensor]] = {
    "cross entropy": lambda at: F.cross_entropy(at.logits, at.y),
    "smoothed": lambda at: F.cross_entropy(at.logits, at.y, label_smoothing=0.1, reduction="none").mean(),
    "squares": lambda at: F.mse_loss(at.logits.softmax(1), F.one_hot(at.y, CLASSES).float()),
}
#: What is added to the loss.
TERMS: dict[str, Callable[[Base, At], Any]] = {
    "penalty": lambda self, at: 0.01 * sum(p.pow(2).sum() for p in self.parameters() if p.requires_grad),
    "every other batch": lambda self, at: 0.1 * at.logits.pow(2).mean() if at.index % 2 == 0 else 0.0,
    "more each epoch": lambda self, at: 0.1 * self.current_epoch * at.logits.abs().mean(),
    "warmed up": lambda self, at: min(1.0, (self.global_step + 1) / 4) * at.logits.pow(4).mean(),
    "later": lambda self, at: 0.2 * at.logits.abs().mean() if self.current_epoch >= 1 else 0.0,
    "of the whole run": lambda self, at: at.logits.std() * self.global_step / self.trainer.max_epochs,
}
#: What is logged, and how.
LOGGED: dict[str, Callable[[Base, At, Tensor], None]] = {
    "by step and epoch": lambda self, at, loss: self.log(f"{at.stage}_twice", loss, on_step=True, on_epoch=True),
    "least": lambda self, at, loss: self.log(f"{at.stage}_least", loss, False, None, False, True, reduce_fx="min"),
    "most": lambda self, at, loss: self.log(f"{at.stage}_most", loss, on_epoch=True, reduce_fx=torch.max),
    "sum": lambda self, at, loss: self.log(f"{at.stage}_sum", (at.logits > 0).sum().float(), reduce_fx="sum"),
    "no logger": lambda self, at, loss: self.log_dict({f"{at.stage}/size": at.logits.norm()}, logger=False),
    "weighted": lambda self, at, loss: self.log(f"{at.stage}_w", loss, on_epoch=True, batch_size=1, sync_dist=True),
    "one name": lambda self, at, loss: self.log("spread", at.logits.std(), on_step=False, on_epoch=True),
    "one name, by step": lambda self, at, loss: self.log("highest", at.logits.max()),
    "first batch": lambda self, at, loss: self.log(f"{at.stage}_1", loss) if at.index == 0 else None,
    "odd batches": lambda self, at, loss: self.log(f"{at.stage}_odd", loss, on_epoch=True) if at.index % 2 else None,
    "progress": lambda self, at, loss: self.log(f"{at.stage}_steps", float(self.global_step), prog_bar=True),
}


class AtStart(Base):
    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.log("weights", sum(parameter.norm() for parameter in self.net.parameters()))


class Buffers(Base):
    """A mean loss in a buffer that is changed in place, and a mean output in one that is assigned in training."""

    def build(self) -> None:
        super().build()
        self.register_buffer("mean_loss", torch.ones(()))
        self.register_buffer("center", torch.zeros(CLASSES))

    def loss(self, at: At) -> Tensor:
        if self.training:
            self.center = 0.9 * self.center + 0.1 * at.logits.detach().mean(0)
        loss = super().loss(at._replace(logits=at.logits - self.center))
        self.mean_loss.mul_(0.9).add_(0.1 * loss.detach())
        return loss / self.mean_loss


class Teacher(Base):
    """A mean of the weights, which are all the same at the start, and one in buffers."""

    def build(self) -> None:
        super().build()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)
        for place, parameter in enumerate(self.net.parameters()):
            self.register_buffer(f"mean_{place}", parameter.detach().clone())

    def loss(self, at: At) -> Tensor:
        pairs = list(zip(self.teacher.parameters(), self.net.parameters(), strict=True))
        if at.stage == "train":
            with torch.no_grad():
                for mean, parameter in pairs:
                    mean.lerp_(parameter, 0.2)
        means = [getattr(self, f"mean_{place}") for place in range(len(pairs))]
        apart = sum((2 * p - mean - m).pow(2).sum() for (mean, p), m in zip(pairs, means, strict=True))
        return super().loss(at) + 0.01 * apart

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        for place, parameter in enumerate(self.net.parameters()):
            getattr(self, f"mean_{place}").data.mul_(0.5).add_(parameter.data, alpha=0.5)


class Temperature(Base):
    def build(self) -> None:
        super().build()
        self.scale = nn.Parameter(torch.ones(()))

    def loss(self, at: At) -> Tensor:
        return super().loss(at._replace(logits=at.logits * self.scale))


class Counts(Base):
    """Counts rows and a mean loss in attributes."""

    def build(self) -> None:
        super().build()
        self.seen, self.scaled = 0, {"by": 1.0}

    def loss(self, at: At) -> Tensor:
        loss = super().loss(at)
        self.seen += len(at.y)
        self.scaled["by"] = 0.9 * self.scaled["by"] + 0.1 * loss.item()
        return loss / self.scaled["by"] * (1 + self.seen / 100)


class Metrics(Base):
    """Objects that are logged in a step, and some that are logged when the epoch ends."""

    def build(self) -> None:
        super().build()
        several = MetricCollection({"f1": MulticlassF1Score(CLASSES), "recall": MulticlassRecall(CLASSES)})
        self.of_training, self.of_validation = several.clone(prefix="train_"), several.clone(prefix="val_")
        self.accuracy, self.ranked = MulticlassAccuracy(CLASSES), MulticlassAUROC(CLASSES, thresholds=5)
        self.mean_size, self.largest = MeanMetric(), MaxMetric()

    def on_train_start(self) -> None:
        super().on_train_start()
        self.largest.reset()

    def record(self, at: At, loss: Tensor) -> None:
        super().record(at, loss)
        self.accuracy(at.logits, at.y)
        self.log(f"{at.stage}_acc", self.accuracy, on_step=at.stage == "train", on_epoch=True)
        if at.stage == "train":
            self.log_dict(self.of_training(at.logits, at.y), on_step=False, on_epoch=True)
        elif at.stage == "val":
            self.of_validation.update(at.logits, at.y)
            self.ranked.update(at.logits.softmax(1), at.y)
            self.mean_size.update(at.logits.abs(), weight=2.0)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.largest(self.mean_size.compute())
        self.log_dict({**self.of_validation.compute(), "val_auroc": self.ranked.compute()})
        self.log("val_largest", self.largest.compute(), prog_bar=True)
        for metric in (self.of_validation, self.ranked, self.mean_size):
            metric.reset()


class Items(Base):
    """Sums of numbers by ``item()``, and lists of outputs, put together when the epoch ends."""

    def build(self) -> None:
        super().build()
        self.correct = self.rows = 0
        self.losses: list[float] = []
        self.outputs: list[dict[str, Tensor]] = []

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.correct = self.rows = 0

    def record(self, at: At, loss: Tensor) -> None:
        super().record(at, loss)
        if at.stage == "train":
            self.losses.append(loss.item())
        else:
            self.correct += (at.logits.argmax(1) == at.y).sum().item()
            self.rows += len(at.y)
            self.outputs.append({"logits": at.logits, "y": at.y})

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.log("mean_of_losses", sum(self.losses) / len(self.losses))
        self.losses.clear()

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("val_right", self.correct / self.rows)
        self._put_together("val")

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._put_together("test")

    def _put_together(self, stage: str) -> None:
        logits, y = (torch.cat([output[name] for output in self.outputs]) for name in ("logits", "y"))
        self.log(f"{stage}_whole_loss", F.cross_entropy(logits, y))
        self.outputs = []


class InSetup(Base):
    """Makes a layer when it is set up, and standardizes by the data in a buffer."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit":
            self.last = nn.Linear(CLASSES, CLASSES)
            self.register_buffer("share", torch.tensor(1 / len(self.trainer.datamodule.parts[0])))

    def loss(self, at: At) -> Tensor:
        return super().loss(at._replace(logits=at.logits + self.last(at.logits) * (1 + self.share)))


class AroundBatches(Base):
    """Does its work in hooks before and after batches, and keeps its weights small."""

    def build(self) -> None:
        super().build()
        self.losses: list[Tensor] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.log("batch", float(batch_idx), on_step=False, on_epoch=True, reduce_fx="sum")

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.log("shown", outputs["loss"], on_epoch=True)
        self.log("taken", float(self.global_step))
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.clamp_(-0.3, 0.3)

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.log("test_mean_of_losses", torch.stack(self.losses).mean())
        self.losses.clear()


class Gradients(Base):
    def on_before_optimizer_step(self, optimizer: Any) -> None:
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        self.log("gradients", torch.stack([gradient.norm() for gradient in gradients]).norm())
        for gradient in gradients:
            gradient.mul_(0.9)


class Kept(Base):
    """Keeps tensors of a batch in attributes, of its own size, for the hook after it."""

    def loss(self, at: At) -> Tensor:
        self.logits = at.logits
        return super().loss(at)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.log("kept", self.logits.norm(dim=1).mean(), on_step=False, on_epoch=True)


class Clipping(Base):
    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any) -> None:
        value = gradient_clip_val or self.trainer.max_epochs / 10
        self.clip_gradients(optimizer, gradient_clip_val=value, gradient_clip_algorithm=gradient_clip_algorithm)


class Averages(Base):
    def build(self) -> None:
        super().build()
        average = get_ema_multi_avg_fn(0.8) if self.drawn.rows == 44 else None
        self.averaged = AveragedModel(self.net, multi_avg_fn=average).requires_grad_(False)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.averaged.update_parameters(self.net)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("averaged", sum(parameter.norm() for parameter in self.averaged.parameters()))


class AtTheEnd(Base):
    def on_train_end(self) -> None:
        for parameter in self.net.parameters():
            parameter.data.mul_(0.5)


PARTS = {
    part.__name__: part
    for part in (
        *(AtStart, Buffers, Teacher, Temperature, Counts, Metrics, Items),
        *(InSetup, AroundBatches, Gradients, Kept, Clipping, Averages, AtTheEnd),
    )
}


def by_dimensions(module: Base) -> list[dict[str, Any]]:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices, others = ([p for p in trained if (p.dim() > 1) is many] for many in (True, False))
    return [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def head_and_rest(module: Base) -> list[dict[str, Any]]:
    *rest, weight, bias = module.parameters()
    return [{"params": [weight, bias], "lr": 0.1, "momentum": 0.5}, {"params": rest}]


#: With an eps that keeps gradients that are rounding alone from making whole steps.
OPTIMIZERS: dict[str, Callable[[Base], Any]] = {
    "SGD": lambda self: torch.optim.SGD(self.parameters(), 0.05, 0.9, nesterov=True, weight_decay=0.01),
    "SGD, by head": lambda self: torch.optim.SGD(head_and_rest(self), 0.01, 0.9, dampening=0.1),
    "AdamW": lambda self: torch.optim.AdamW(by_dimensions(self), 0.005, (0.8, 0.99), eps=1e-4),
    "Adam": lambda self: torch.optim.Adam(self.parameters(), 0.005, eps=1e-4, amsgrad=True, weight_decay=0.01),
    "RMSprop": lambda self: torch.optim.RMSprop(self.parameters(), 0.002, 0.9, eps=1e-4, momentum=0.5),
}
#: What ``configure_optimizers`` returns.
SCHEDULES: dict[str, Callable[[Base, Any], Any]] = {
    "none": lambda self, optimizer: optimizer,
    "by epoch": lambda self, optimizer: (
        [optimizer],
        [lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)],
    ),
    "every second batch": lambda self, optimizer: (
        [optimizer],
        [{"scheduler": lr_scheduler.ExponentialLR(optimizer, 0.8), "interval": "step", "frequency": 2}],
    ),
    "on plateau": lambda self, optimizer: {
        "optimizer": optimizer,
        "lr_scheduler": {
            "scheduler": lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.5),
            "monitor": "val_loss",
        },
    },
    "ours": lambda self, optimizer: schedule_config(optimizer, WarmupCosine(warmup="1ep"), self.trainer),
}


SHAPES: dict[str, Callable[[list[Any]], Any]] = {
    "two": default_collate,
    "three": lambda rows: (*default_collate(rows), torch.ones(len(rows))),
    "dict": lambda rows: dict(zip("xy", default_collate(rows), strict=True)),
}
ORDERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "in order": lambda rows: {},
    "shuffled": lambda rows: {"shuffle": True},
    "without the rest": lambda rows: {"shuffle": True, "drop_last": True},
    "weighted": lambda rows: {"sampler": WeightedRandomSampler(torch.linspace(0.1, 1, rows), rows)},
    "by its own generator": lambda rows: {"shuffle": True, "generator": torch.Generator().manual_seed(7)},
}


class Data(Rows):
    """Rows of a shape, in an order; the last batch of training is short, or whole."""

    def __init__(self, kind: str, drawn: Drawn) -> None:
        super().__init__(kind, drawn.rows)
        self.drawn = drawn

    def train_dataloader(self) -> Any:
        return self._loader(0, self.batch_size, **ORDERS[self.drawn.order](self.rows))

    def val_dataloader(self) -> Any:
        return self._loader(1, 6)

    def test_dataloader(self) -> Any:
        return self._loader(2, 6)

    def _loader(self, part: int, batch_size: int, **order: Any) -> Any:
        return DataLoader(self.parts[part], batch_size, collate_fn=SHAPES[self.drawn.shape], **order)


@dataclass(frozen=True)
class Drawn:
    """A module, its data and how it trains."""

    layers: str = "plain"
    loss: str = "cross entropy"
    terms: tuple[str, ...] = ()
    logged: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    optimizer: str = "SGD"
    schedule: str = "none"
    shape: str = "two"
    order: str = "in order"
    rows: int = 44
    regime: Regime = PLAIN

    def module(self) -> Base:
        return type("Module", (*(PARTS[part] for part in self.parts), Base), {})(self)

    def data(self) -> Data:
        return Data(LAYERS[self.layers][0], self)


def drawn(number: int) -> Drawn:
    """Returns the module of this number."""
    draw = random.Random(number)
    return Drawn(
        layers=draw.choice([*LAYERS]),
        loss=draw.choice([*LOSSES]),
        terms=tuple(draw.sample([*TERMS], draw.randint(0, 3))),
        logged=tuple(draw.sample([*LOGGED], draw.randint(0, 4))),
        parts=tuple(draw.sample([*PARTS], draw.randint(0, 4))),
        optimizer=draw.choice([*OPTIMIZERS]),
        schedule=draw.choice([*SCHEDULES]),
        shape=draw.choice([*SHAPES]),
        order=draw.choice([*ORDERS]),
        rows=draw.choice([44, 48]),
        regime=Regime(
            accumulate=draw.choice([1, 1, 2, 3]),
            clip=draw.choice([None, None, Clip(0.5, "norm"), Clip(0.05, "value")]),
            limit_train=draw.choice([1.0, 1.0, 2, 0.7]),
            limit_val=draw.choice([1.0, 1.0, 2]),
            limit_test=draw.choice([1.0, 1.0, 1]),
        ),
    )

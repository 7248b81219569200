"""Whole modules in the style of well-known libraries, with data modules of their own: none knows of a race."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanAbsoluteError, SymmetricMeanAbsolutePercentageError

from tests.comparison.ordinary_modules import CLASSES, Classifier, Ordinary

PAST, FUTURE, GROUPS = 4, 3, 3
QUANTILES = (0.1, 0.5, 0.9)


class Windows(Dataset[Any]):
    """Windows of noisy waves, as dictionaries with what is known of the past and of the future."""

    def __init__(self, rows: int) -> None:
        time = torch.arange(PAST + FUTURE)
        self.series = torch.sin(time * (0.2 + torch.rand(rows, 1))) + 0.1 * torch.randn(rows, PAST + FUTURE)
        self.groups = torch.randint(0, GROUPS, (rows,))

    def __len__(self) -> int:
        return len(self.series)

    def __getitem__(self, index: int) -> Any:
        past, future = self.series[index, :PAST], self.series[index, PAST:]
        x = {
            "encoder_cont": past[:, None],
            "decoder_cont": torch.arange(float(FUTURE))[:, None] / FUTURE,
            "groups": self.groups[index],
            "decoder_lengths": torch.tensor(FUTURE),
            "target_scale": torch.stack([past.mean(), past.std()]),
        }
        return x, (future, torch.ones(FUTURE))


class SeriesDataModule(LightningDataModule):
    def __init__(self, kind: str) -> None:
        super().__init__()

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.training, self.validation, self.testing = Windows(44), Windows(16), Windows(16)

    def train_dataloader(self) -> Any:
        return DataLoader(self.training, batch_size=16, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.validation, batch_size=16)

    def test_dataloader(self) -> Any:
        return DataLoader(self.testing, batch_size=16)


class QuantileLoss(nn.Module):
    def forward(self, predicted: Tensor, target: tuple[Tensor, Tensor]) -> Tensor:
        actual, weight = target
        losses = []
        for place, quantile in enumerate(QUANTILES):
            errors = actual - predicted[..., place]
            losses.append(torch.max((quantile - 1) * errors, quantile * errors).unsqueeze(-1))
        return (2 * torch.cat(losses, dim=2) * weight.unsqueeze(-1)).mean()


class Forecaster(LightningModule):
    """As forecasting libraries have it: quantiles, one step for all stages, logs that count their samples."""

    def __init__(self, hidden_size: int = 6, log_interval: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.loss = QuantileLoss()
        self.logging_metrics = nn.ModuleList([MeanAbsoluteError(), SymmetricMeanAbsolutePercentageError()])
        self.embeddings = nn.ModuleDict({"groups": nn.Embedding(GROUPS, hidden_size)})
        self.prescalers = nn.ModuleDict({"past": nn.Linear(1, hidden_size), "future": nn.Linear(1, hidden_size)})
        self.encoder = nn.LSTM(hidden_size, hidden_size, batch_first=True)
        self.decoder = nn.LSTM(hidden_size, hidden_size, batch_first=True)
        self.attention = nn.MultiheadAttention(hidden_size, 2, batch_first=True)
        self.output = nn.Linear(hidden_size, len(QUANTILES))
        self.training_step_outputs: list[dict[str, Any]] = []
        self.validation_step_outputs: list[dict[str, Any]] = []

    @property
    def current_stage(self) -> str:
        return "train" if self.trainer.training else "val" if self.trainer.validating else "test"

    def forward(self, x: dict[str, Tensor]) -> dict[str, Any]:
        center, scale = x["target_scale"].unbind(1)
        group = self.embeddings["groups"](x["groups"])[:, None]
        past = self.prescalers["past"]((x["encoder_cont"] - center[:, None, None]) / scale[:, None, None]) + group
        encoded, state = self.encoder(past)
        decoded, _ = self.decoder(self.prescalers["future"](x["decoder_cont"]) + group, state)
        seen = torch.cat([encoded, decoded], 1)
        step = torch.arange(FUTURE, device=self.device)
        mask = torch.cat([torch.zeros(FUTURE, PAST, dtype=torch.bool), step[None] > step[:, None]], 1)
        attended, weights = self.attention(decoded, seen, seen, attn_mask=mask)
        prediction = self.output(attended + decoded) * scale[:, None, None] + center[:, None, None]
        return {"prediction": prediction, "weights": weights}

    def step(self, x: dict[str, Tensor], y: tuple[Tensor, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
        out = self(x)
        loss = self.loss(out["prediction"], y)
        size = len(x["decoder_lengths"])
        self.log(f"{self.current_stage}_loss", loss, on_step=self.training, on_epoch=True, batch_size=size)
        return {"loss": loss, "n_samples": size, "interval": self.hparams.log_interval}, out

    def log_metrics(self, x: dict[str, Tensor], y: tuple[Tensor, Tensor], out: dict[str, Any]) -> None:
        median = out["prediction"][..., 1].detach()
        for metric in self.logging_metrics:
            value = metric(median.contiguous(), y[0].contiguous())
            name = f"{self.current_stage}_{metric.__class__.__name__}"
            self.log(name, value, on_step=self.training, on_epoch=True, batch_size=len(x["decoder_lengths"]))

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        log, out = self.step(*batch)
        self.log_metrics(*batch, out)
        self.training_step_outputs.append(log)
        return log

    def on_train_epoch_end(self) -> None:
        samples = sum(log["n_samples"] for log in self.training_step_outputs)
        total = sum(log["loss"] * log["n_samples"] for log in self.training_step_outputs)
        self.log("train_loss_of_samples", total / samples)
        self.training_step_outputs.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        log, out = self.step(*batch)
        self.log_metrics(*batch, out)
        self.validation_step_outputs.append(log)
        return log

    def on_validation_epoch_end(self) -> None:
        self.validation_step_outputs.clear()

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        log, out = self.step(*batch)
        self.log_metrics(*batch, out)
        return log


class MixtureOfExperts(Classifier):
    """Routes each row to two experts; ``forward`` leaves the loss that balances them, and how it has routed."""

    def build(self) -> None:
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, CLASSES)) for _ in "1234"])
        self.gate = nn.Linear(8, len(self.experts), bias=False)
        self.aux_loss = 0.0
        self.routed: dict[str, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        shares = self.gate(x).softmax(-1)
        weights, chosen = shares.topk(2, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        out = torch.zeros(len(x), CLASSES, device=x.device)
        for number, expert in enumerate(self.experts):
            mask = (chosen == number).float()
            out = out + (weights * mask).sum(-1, keepdim=True) * expert(x)
        load = F.one_hot(chosen, len(self.experts)).float().sum(1).mean(0)
        self.aux_loss = len(self.experts) * (load * shares.mean(0)).sum()
        self.routed = {"load": load, "shares": shares.detach()}
        return out

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log_dict({"train_loss": loss, "aux": self.aux_loss, "most": self.routed["load"].max()}, on_epoch=True)
        return loss + 0.01 * self.aux_loss


WHOLE = {
    entry.module.__name__: entry
    for entry in (Ordinary(Forecaster, "series", data=SeriesDataModule), Ordinary(MixtureOfExperts, "table"))
}

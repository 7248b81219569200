"""Three noisy spirals, as one would write them for Lightning: nothing here knows of lit_lrsched."""

import math

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy


class Spirals(LightningDataModule):
    """1,200 points in the plane, each on one of three spirals; ``seed`` draws them and splits them."""

    def __init__(self, batch_size: int = 64, noise: float = 0.25, seed: int = 0):
        super().__init__()
        self.batch_size, self.noise, self.seed = batch_size, noise, seed

    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(self.seed)
        spiral = torch.arange(1200) % 3
        radius = torch.rand(1200, generator=generator)
        angle = 4 * radius + spiral * 2 * math.pi / 3 + self.noise * torch.randn(1200, generator=generator)
        points = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
        parts = random_split(TensorDataset(points, spiral), [0.5, 0.25, 0.25], generator)
        self.train, self.val, self.test = parts

    def train_dataloader(self):
        return DataLoader(self.train, self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 300)

    def test_dataloader(self):
        return DataLoader(self.test, 300)


class Net(LightningModule):
    """An MLP with batch normalization, AdamW with two param groups, and a cosine of its own."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))
        self.val_acc, self.test_acc = MulticlassAccuracy(3), MulticlassAccuracy(3)

    def training_step(self, batch, batch_idx):
        points, spiral = batch
        loss = cross_entropy(self.net(points), spiral)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.val_acc(self.net(batch[0]), batch[1])
        self.log("val_acc", self.val_acc)

    def test_step(self, batch, batch_idx):
        self.test_acc(self.net(batch[0]), batch[1])
        self.log("test_acc", self.test_acc)

    def configure_optimizers(self):
        matrices = [p for p in self.parameters() if p.ndim > 1]
        vectors = [p for p in self.parameters() if p.ndim == 1]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=3e-2)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_epochs)]

"""Runs too small to wait for: modules, their data, what notes the values that they used, and one quiet trainer for all.

Models for the command line, which names them by their path, are in ``tests.foreign``.
"""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched import schedule_config
from lit_lrsched.optim.param_groups import values_of

BATCHES = 4

Values = list[list[float]]  # of every param group, at every optimizer step


class Endless:
    """Batches of one number each, all different, and no length: Lightning finds out at its end that it has one."""

    def __init__(self, count: int = BATCHES) -> None:
        self.count = count

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (torch.tensor([0.3 + 0.1 * index]) for index in range(self.count))


class Forgetful(Endless):
    """The same with a length, as a data loader is: an epoch can only begin at its beginning."""

    def __len__(self) -> int:
        return self.count


class Numbers(Forgetful):
    """The same, and it can go on in the middle of an epoch."""

    start = position = 0

    def __iter__(self) -> Iterator[torch.Tensor]:
        start, self.start = self.start, 0
        for index, number in enumerate(super().__iter__()):
            if index >= start:
                self.position = (index + 1) % self.count
                yield number

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["position"]


def sgd(module: LightningModule, lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.01) -> Optimizer:
    return SGD(module.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)


def lookahead(inner: Optimizer) -> Optimizer:
    """Wraps an optimizer as the Lookahead of timm does: without ``Optimizer.__init__``, so that no hook is called.

    The class is another one each time: torch hooks the steps of a whole class once one of its optimizers sets gradients
    to zero.
    """

    class Lookahead(Optimizer):
        def __init__(self) -> None:
            self._optimizer_step_pre_hooks = OrderedDict()
            self._optimizer_step_post_hooks = OrderedDict()
            self.inner, self.defaults, self.state = inner, inner.defaults, inner.state
            self.param_groups = inner.param_groups

        def step(self, closure: Any = None) -> Any:
            return self.inner.step(closure)

    return Lookahead()


class OfTimm:
    """Steps as timm's schedulers do, which are none of torch's: told the epoch, from a warmup that it begins with."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = 1e-5 * group.get("lr_scale", 1.0)

    def step(self, epoch: int, metric: Any = None) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] / 2**epoch * group.get("lr_scale", 1.0)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


class Small(LightningModule):
    """Two weights, which tell every rate that was used, and whatever ``configure(module)`` returns."""

    def __init__(self, configure: Callable[[LightningModule], Any] = sgd) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([1.0, -1.0]))
        self.configure = configure

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = ((self.weights * batch).sum() - 1) ** 2
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=1)
        return loss

    def configure_optimizers(self) -> Any:
        return self.configure(self)


class Validated(Small):
    """The same with a ``val_loss`` that comes from a list: one value an epoch, then the last."""

    val_losses: tuple[float, ...] = (0.0,)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.val_losses[min(self.trainer.current_epoch, len(self.val_losses) - 1)], batch_size=1)


Configure = Callable[["Tiny"], Any]


class Tiny(LightningModule):
    """Two layers in two param groups, with data of its own. Notes what its optimizers are set to at each step.

    Args:
        configure: What ``configure_optimizers`` does.
        batches: Batches in an epoch.
        val_loss: What is logged at each validation; by default it falls, while ``val_acc`` rises.
    """

    def __init__(self, configure: Configure, batches: int = 11, val_loss: Sequence[float] = ()) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.configure, self.batches, self.val_loss = configure, batches, val_loss
        self.used: list[dict[str, float]] = []
        self.validations = 0

    def make_optimizer(self) -> Optimizer:
        groups = [{"params": self.backbone.parameters(), "lr": 0.03}, {"params": self.head.parameters()}]
        return SGD(groups, lr=0.1, momentum=0.9)

    def configure_optimizers(self) -> Any:
        return self.configure(self)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.head(self.backbone(batch[0])).mean()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.used.append(values_of(self.trainer.optimizers))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0 and not self.trainer.sanity_checking:
            falling = 1.0 / (1 + self.validations)
            self.log("val_loss", self.val_loss[self.validations] if self.val_loss else falling)
            self.log("val_acc", 1.0 - falling)
            self.validations += 1

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.ones(self.batches, 1)))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.ones(1, 1)))


class TinyByHand(Tiny):
    """The same with manual optimization."""

    def __init__(self, configure: Configure) -> None:
        super().__init__(configure)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


def scheduled(schedule: Any, make_optimizer: Callable[..., Optimizer] = sgd, **options: Any) -> Callable[..., Any]:
    """What ``configure_optimizers`` returns with :func:`schedule_config`."""
    return lambda module: schedule_config(make_optimizer(module), schedule, module.trainer, **options)


def small(schedule: Any, **options: Any) -> Small:
    return Small(scheduled(schedule, **options))


class Used(Callback):
    """Notes what optimizers were set to at each step that they really took."""

    def __init__(self) -> None:
        self.rates: Values = []
        self.momenta: Values = []
        self.decays: Values = []
        self.by_optimizer: dict[int, Values] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number, optimizer in enumerate(trainer.optimizers):
            optimizer.register_step_pre_hook(partial(self._note, number))

    def _note(self, number: int, optimizer: Optimizer, *_: Any) -> None:
        groups = optimizer.param_groups
        rates = [float(group["lr"]) for group in groups]
        self.rates.append(rates)
        self.by_optimizer.setdefault(number, []).append(rates)
        self.momenta.append([group["betas"][0] if "betas" in group else group.get("momentum", 0.0) for group in groups])
        self.decays.append([group.get("weight_decay", 0.0) for group in groups])

    @property
    def first_rates(self) -> list[float]:
        """The rates of the first param group."""
        return [rates[0] for rates in self.rates]

    def epochs(self, steps_per_epoch: int = BATCHES) -> list[float]:
        """The rate of the first param group at the first step of each epoch."""
        return self.first_rates[::steps_per_epoch]


class SaveAt(Callback):
    """Saves a checkpoint whenever a hook is called."""

    def __init__(self, folder: Path, hook: str = "on_train_batch_end") -> None:
        self.paths: list[Path] = []
        self._folder = folder
        setattr(self, hook, self._save)

    def _save(self, trainer: Trainer, *_: Any) -> None:
        path = self._folder / f"{len(self.paths)}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        self.paths.append(path)


def quiet_trainer(*callbacks: Callback, **options: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 3,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "callbacks": list(callbacks),
    }
    return Trainer(**{**defaults, **options})


def tiny_trainer(*callbacks: Callback, **options: Any) -> Trainer:
    """For :class:`Tiny`: five epochs, and Lightning's check of validation before them."""
    return quiet_trainer(*callbacks, **{"max_epochs": 5, "log_every_n_steps": 1, "num_sanity_val_steps": 2, **options})


def used_by(
    module: LightningModule,
    *callbacks: Callback,
    data: Any = None,
    val: Any = None,
    ckpt: Path | None = None,
    **options: Any,
) -> Used:
    """Trains and returns what was used."""
    used = Used()
    trainer = quiet_trainer(used, *callbacks, **options)
    trainer.fit(module, Numbers() if data is None else data, val, ckpt_path=ckpt, weights_only=ckpt and True)
    return used


def run_script(text: str, folder: Path) -> str:
    """Runs a script in a Python of its own, in a folder; returns what it prints."""
    lines = text.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    (folder / "script.py").write_text("\n".join(line[indent:] for line in lines) + "\n")
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr

"""What the learning-rate callback logs and prints, read back from the loggers' own files."""

from __future__ import annotations

import csv
import logging
import math
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR, ReduceLROnPlateau, StepLR

from lit_lrsched import (
    ApplySchedule,
    Constant,
    InverseTime,
    LearningRateLogger,
    Linear,
    Plateau,
    schedule_config,
)
from lit_lrsched.trainer.loggers import HeldPoints
from tests.reading import scalar_tags, scalars
from tests.training import Tiny, scheduled, tiny_trainer


class Memory(Logger):
    """A logger of somebody else's making: keeps what it is given, as ``(step, values)``."""

    name, version = "memory", 0

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, metrics, step=None):
        self.records.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        pass

    def of(self, prefix: str) -> list[tuple[int, dict[str, float]]]:
        """The records that hold values whose names begin so, without the rest of the values."""
        chosen = [
            (step, {name: v for name, v in values.items() if name.startswith(prefix)}) for step, values in self.records
        ]
        return [(step, values) for step, values in chosen if values]


def fit(configure, callback: LearningRateLogger | None = None, batches: int = 2, **options) -> Memory:
    memory = Memory()
    callback = callback or LearningRateLogger()
    options = {"logger": memory, "max_epochs": 3, **options}
    tiny_trainer(callbacks=[callback], **options).fit(Tiny(configure, batches))
    return memory


def sgd(module, **options):
    return SGD(module.parameters(), **{"lr": 0.1, **options})


def halving(module):
    optimizer = sgd(module)
    return [optimizer], [ExponentialLR(optimizer, gamma=0.5)]


def test_without_a_scheduler_the_constant_rate_is_logged_each_epoch():
    assert fit(sgd).of("lr/") == [(step, {"lr/group0": 0.1}) for step in (0, 2, 4)]


def test_with_a_scheduler_the_rate_is_the_one_that_the_epoch_uses():
    assert fit(halving).of("lr/") == [(0, {"lr/group0": 0.1}), (2, {"lr/group0": 0.05}), (4, {"lr/group0": 0.025})]


def decaying(module):
    """Changes the rate at every step."""
    optimizer = sgd(module)
    return [optimizer], [{"scheduler": ExponentialLR(optimizer, gamma=0.999), "interval": "step"}]


def test_a_rate_that_changes_is_logged_at_every_step():
    used = enumerate(0.1 * 0.999**step for step in range(6))
    assert fit(decaying).of("lr/") == [(step, {"lr/group0": pytest.approx(rate)}) for step, rate in used]


def test_a_long_run_is_thinned_but_for_the_start_of_each_epoch():
    steps = [step for step, _ in fit(decaying, batches=700).of("lr/")]  # 2100 steps: every third, and closer at first
    assert steps[:100] == list(range(100))
    assert {0, 700, 1400} <= set(steps)
    assert {after - before for before, after in pairwise(steps) if before >= 150} == {1, 2, 3}
    assert 700 <= len(steps) <= 810


@pytest.mark.parametrize("accumulate", [1, 2])
def test_each_step_logs_once_what_it_used(accumulate):
    memory, module = Memory(), Tiny(Tiny.make_optimizer, batches=5)
    logs = LearningRateLogger(each_step=True, momentum=True, weight_decay=True)
    schedule = ApplySchedule(Linear(), groups={"momentum": Linear(end=0.5)})
    tiny_trainer(logs, schedule, logger=memory, max_epochs=3, accumulate_grad_batches=accumulate).fit(module)
    assert [row for row in memory.records if "lr/group0" in row[1]] == [*enumerate(module.used)]
    assert len(module.used) == 3 * -(-5 // accumulate)


def test_a_rate_that_a_validation_changes_while_gradients_accumulate_is_logged():
    schedule = Plateau(Linear(), patience=0)
    memory, module = Memory(), Tiny(scheduled(schedule, Tiny.make_optimizer), batches=4, val_loss=[1.0] * 5)
    options = {"accumulate_grad_batches": 2, "val_check_interval": 3, "check_val_every_n_epoch": None}
    tiny_trainer(LearningRateLogger(), logger=memory, max_epochs=4, **options).fit(module)
    assert dict(memory.of("lr/")) == dict(
        enumerate({k: v for k, v in one.items() if "lr/" in k} for one in module.used)
    )


def test_param_groups_with_and_without_names():
    def configure(module):
        return SGD(
            [
                {"params": module.backbone.parameters(), "lr": 0.01, "name": "backbone"},
                {"params": [module.head.weight]},
                {"params": [module.head.bias], "lr": 0.3, "name": "head/bias"},
            ],
            lr=0.1,
        )

    expected = {"lr/backbone": 0.01, "lr/group1": 0.1, "lr/head/bias": 0.3}
    assert fit(configure, max_epochs=1).of("lr/") == [(0, expected)]


@pytest.mark.parametrize("make", [SGD, Adam, partial(SGD, momentum=0.9, nesterov=True)])
@pytest.mark.parametrize(
    "schedule",
    [
        None,
        lambda optimizer: LinearLR(optimizer, total_iters=2),
        lambda optimizer: LambdaLR(optimizer, lambda epoch: 0.5),
        InverseTime(0.1),
        Constant(),
    ],
    ids=["none", "LinearLR", "LambdaLR", "InverseTime", "Constant"],
)
def test_names_depend_on_neither_optimizer_nor_scheduler(make, schedule):
    def configure(module):
        return schedule_config(make(module.parameters(), lr=0.1), schedule, module.trainer)

    callback = LearningRateLogger(momentum=True, weight_decay=True)
    names = {name for _, values in fit(configure, callback, max_epochs=1).records for name in values}
    assert {name for name in names if "/" in name} == {"lr/group0", "momentum/group0", "weight_decay/group0"}


@pytest.mark.parametrize("asked", [(), ("momentum",), ("weight_decay",)])
def test_momentum_and_weight_decay_on_request(asked):
    configure = partial(sgd, momentum=0.9, weight_decay=0.25)
    memory = fit(configure, LearningRateLogger(**dict.fromkeys(asked, True)), max_epochs=1)
    others = {f"{name}/group0": {"momentum": 0.9, "weight_decay": 0.25}[name] for name in asked}
    assert memory.records[0] == (0, {"lr/group0": 0.1, **others})


def test_an_optimizer_without_momentum_logs_none():
    def configure(module):
        return torch.optim.Adagrad(module.parameters(), lr=0.1)

    memory = fit(configure, LearningRateLogger(momentum=True, weight_decay=True), max_epochs=1)
    assert memory.records[0] == (0, {"lr/group0": 0.1, "weight_decay/group0": 0})


def test_a_rate_in_a_tensor_is_logged_as_a_number():
    def configure(module):
        return Adam(module.parameters(), lr=torch.tensor(0.125), capturable=False, foreach=False)

    assert fit(configure, max_epochs=1).of("lr/") == [(0, {"lr/group0": 0.125})]


class TwoOptimizers(Tiny):
    def __init__(self, configure) -> None:
        super().__init__(configure, batches=2)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()


def test_several_optimizers_are_told_apart(capsys):
    def configure(module):
        return SGD(module.backbone.parameters(), lr=0.1), Adam(module.head.parameters(), lr=0.01)

    memory = Memory()
    callback = LearningRateLogger(momentum=True, print_each_epoch=True)
    tiny_trainer(logger=memory, callbacks=[callback], max_epochs=1).fit(TwoOptimizers(configure))
    assert memory.records[0][1] == {
        "lr/optimizer0/group0": 0.1,
        "lr/optimizer1/group0": 0.01,
        "momentum/optimizer0/group0": 0,
        "momentum/optimizer1/group0": 0.9,
    }
    assert capsys.readouterr().out == (
        "Epoch 0: SGD lr/optimizer0/group0 0.1000 -> 0.1000\nEpoch 0: Adam lr/optimizer1/group0 0.0100 -> 0.0100\n"
    )


def test_with_manual_optimization_a_batch_is_a_step_of_the_log_as_in_lightnings_own():
    def configure(module):
        return SGD(module.backbone.parameters(), lr=0.1), Adam(module.head.parameters(), lr=0.1)

    memory = Memory()
    callbacks = [ApplySchedule(Linear()), LearningRateLogger()]
    tiny_trainer(logger=memory, callbacks=callbacks, max_epochs=2).fit(TwoOptimizers(configure))
    rates = [(step, 0.1 * (1 - step / 4)) for step in range(4)]
    both = ("lr/optimizer0/group0", "lr/optimizer1/group0")
    assert memory.of("lr/") == [(step, dict.fromkeys(both, pytest.approx(rate))) for step, rate in rates]


def test_all_loggers_hold_the_same(tmp_path):
    loggers = [TensorBoardLogger(tmp_path, name="board", version=0), CSVLogger(tmp_path, name="table", version=0)]
    fit(halving, logger=loggers)
    in_events = scalars(tmp_path / "board" / "version_0", "lr/group0")
    with (tmp_path / "table" / "version_0" / "metrics.csv").open() as file:
        in_table = [float(row["lr/group0"]) for row in csv.DictReader(file) if row["lr/group0"]]
    assert in_table == [0.1, 0.05, 0.025]
    assert in_events == pytest.approx(in_table, rel=1e-6)
    assert "lr/group0" in scalar_tags(tmp_path / "board" / "version_0")


class Watch(Callback):
    """Notes at each step how many rates the files of the run have, and may end it."""

    def __init__(self, run: Path, stops_at: int | None = None) -> None:
        self.run, self.stops_at = run, stops_at
        self.seen: list[int] = []

    def on_train_batch_end(self, trainer, *args):
        self.seen.append(len(scalars(self.run, "lr/group0")))
        if trainer.global_step == self.stops_at:
            raise RuntimeError("the run fails here")


@pytest.mark.parametrize(
    ("seconds", "seen"),
    [(0.0, [1, 2, 3, 4, 5, 6]), (math.inf, [1, 1, 1, 1, 1, 1])],
    ids=["two seconds have passed", "less has passed"],
)
def test_tensorboard_gets_the_points_of_two_seconds_together(tmp_path, monkeypatch, seconds, seen):
    monkeypatch.setattr(HeldPoints, "SECONDS", seconds)
    watch = Watch(tmp_path / "version_0")
    board = TensorBoardLogger(tmp_path, name="", version=0)
    tiny_trainer(callbacks=[LearningRateLogger(), watch], logger=board, max_epochs=3).fit(Tiny(decaying, 2))
    assert watch.seen == seen
    assert scalars(watch.run, "lr/group0") == pytest.approx([0.1 * 0.999**step for step in range(6)], rel=1e-6)


def test_what_a_checkpoint_has_taken_is_logged_whatever_comes_after_it(tmp_path):
    class Saves(Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "three.ckpt")
                seen.extend(scalars(tmp_path / "version_0", "lr/group0"))

    seen: list[float] = []
    board = TensorBoardLogger(tmp_path, name="", version=0)
    tiny_trainer(callbacks=[LearningRateLogger(), Saves()], logger=board, max_epochs=3).fit(Tiny(decaying, 2))
    assert seen == pytest.approx([0.1 * 0.999**step for step in range(3)], rel=1e-6)


def test_a_run_that_fails_has_logged_what_it_used(tmp_path):
    watch = Watch(tmp_path / "version_0", stops_at=4)
    board = TensorBoardLogger(tmp_path, name="", version=0)
    with pytest.raises(RuntimeError, match="the run fails here"):
        tiny_trainer(callbacks=[LearningRateLogger(), watch], logger=board, max_epochs=3).fit(Tiny(decaying, 2))
    assert scalars(watch.run, "lr/group0") == pytest.approx([0.1 * 0.999**step for step in range(4)], rel=1e-6)


def test_a_loggers_own_prefix_stands_before_the_names(tmp_path):
    fit(decaying, logger=TensorBoardLogger(tmp_path, name="", version=0, prefix="mine"))
    assert scalars(tmp_path / "version_0", "mine-lr/group0") == pytest.approx(
        [0.1 * 0.999**step for step in range(6)], rel=1e-6
    )


def test_without_a_logger_it_says_so_once_and_training_goes_on(caplog, capsys):
    callback = LearningRateLogger(each_step=True, print_each_epoch=True)
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        fit(sgd, callback, logger=False)
    assert [r.getMessage() for r in caplog.records if "LearningRateLogger" in r.getMessage()] == [
        "LearningRateLogger: the trainer has no logger, so learning rates are not logged."
    ]
    assert capsys.readouterr().out.count("Epoch ") == 3


def test_with_a_logger_it_says_nothing(caplog, capsys):
    with caplog.at_level(logging.INFO):
        fit(sgd)
    assert not any("LearningRateLogger" in record.getMessage() for record in caplog.records)
    assert capsys.readouterr().out == ""


def test_a_line_for_each_epoch(capsys):
    def configure(module):
        optimizer = sgd(module)
        return [optimizer], [LinearLR(optimizer, start_factor=1.0, end_factor=0.5, total_iters=30)]

    fit(configure, LearningRateLogger(print_each_epoch=True))
    # 0.1 * (1 - n/60): 0.1, 0.098333, 0.096667, 0.095
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0: SGD lr 0.1000 -> 0.0983",
        "Epoch 1: SGD lr 0.0983 -> 0.0967",
        "Epoch 2: SGD lr 0.0967 -> 0.0950",
    ]


def test_the_line_names_param_groups_when_there_are_several(capsys):
    def configure(module):
        optimizer = module.make_optimizer()
        return [optimizer], [StepLR(optimizer, step_size=1, gamma=0.5)]

    fit(configure, LearningRateLogger(print_each_epoch=True), max_epochs=1)
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0: SGD lr/group0 0.0300 -> 0.0150",
        "Epoch 0: SGD lr/group1 0.1000 -> 0.0500",
    ]


def test_the_line_shows_where_a_metric_moved_the_rate(capsys):
    def configure(module):
        optimizer = sgd(module)
        scheduler = ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}

    # The loss falls, which for mode max is no better: after the first epoch one bad epoch is borne, the second is not.
    fit(configure, LearningRateLogger(print_each_epoch=True), max_epochs=4)
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0: SGD lr 0.1000 -> 0.1000",
        "Epoch 1: SGD lr 0.1000 -> 0.1000",
        "Epoch 2: SGD lr 0.1000 -> 0.0500",
        "Epoch 3: SGD lr 0.0500 -> 0.0500",
    ]


def test_a_second_fit_starts_afresh(capsys):
    callback = LearningRateLogger(print_each_epoch=True)
    fit(sgd, callback, max_epochs=1)
    memory = fit(partial(sgd, lr=0.2), callback, max_epochs=1)
    assert memory.of("lr/") == [(0, {"lr/group0": 0.2})]
    assert capsys.readouterr().out == "Epoch 0: SGD lr 0.1000 -> 0.1000\nEpoch 0: SGD lr 0.2000 -> 0.2000\n"


def test_fast_dev_run_writes_nothing(in_tmp: Path, capsys):
    fit(sgd, LearningRateLogger(print_each_epoch=True), logger=True, fast_dev_run=True)
    assert "Epoch 0: SGD lr 0.1000 -> 0.1000\n" in capsys.readouterr().out
    assert list(in_tmp.iterdir()) == []


def test_the_line_of_a_group_that_is_called_otherwise_at_the_end_of_the_epoch(capsys):
    class Adds(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == 0:
                group = {"params": [nn.Parameter(torch.zeros(1))], "lr": 0.2, "name": "head"}
                trainer.optimizers[0].add_param_group(group)

    def configure(module):
        return SGD([{"params": list(module.parameters()), "name": "head"}], lr=0.1)

    printed = LearningRateLogger(print_each_epoch=True)
    tiny_trainer(Adds(), printed, max_epochs=2).fit(Tiny(configure))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0: SGD lr 0.1000 -> 0.1000",
        "Epoch 1: SGD lr/group0 0.1000 -> 0.1000",
        "Epoch 1: SGD lr/group1 0.2000 -> 0.2000",
    ]


def test_the_line_of_a_small_rate(capsys):
    def configure(module):
        return schedule_config(Adam(module.parameters(), lr=3e-5), Linear(), module.trainer)

    tiny_trainer(LearningRateLogger(print_each_epoch=True), max_epochs=2).fit(Tiny(configure))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0: Adam lr 3e-05 -> 1.5e-05",
        "Epoch 1: Adam lr 1.5e-05 -> 0.0000",
    ]

"""``fit`` refuses to train what ``preview`` calls a failure, and warns of what it warns of."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, ReduceLROnPlateau, StepLR

from lit_lrsched import ApplySchedule, Constant, Cosine, Horizon, Linear, Plateau, ScheduledLR, schedule_config
from lit_lrsched.trainer.callbacks.start_audit import StartAudit, TrainingRefused
from lit_lrsched.trainer.callbacks.tensorboard_run import TensorBoardRun
from lit_lrsched.trainer.fit_plan import audit_fit
from tests.reading import run_folder
from tests.training import Numbers, Tiny, TinyByHand, Validated, quiet_trainer, scheduled, tiny_trainer

ONE_CYCLE = "--lr_scheduler=OneCycleLR --lr_scheduler.max_lr=0.1"
FEW_EPOCHS = "--trainer.max_epochs=4 --trainer.limit_test_batches=1"


def said(text: str, level: str) -> list[str]:
    return re.findall(rf"^{level}: (.+)$", text, flags=re.MULTILINE)


@pytest.mark.sampled(7)
@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using 'interval'")
@pytest.mark.parametrize(
    "arguments",
    [
        "--lr_scheduler=CosineAnnealingLR --lr_scheduler.T_max=10",
        f"{ONE_CYCLE} --lr_scheduler.total_steps=550",
        f"{ONE_CYCLE} --lr_scheduler.total_steps=100 --lr_interval=step",
        "--lr_scheduler=MultiStepLR --lr_scheduler.milestones=[60,80]",
        "--lr_scheduler=MultiStep --lr_scheduler.milestones=[60ep,80ep]",
        "--lr_scheduler=Linear --lr_scheduler.over=2ep",
        "--lr_scheduler=ReduceLROnPlateau --lr_monitor=val_f1 --lr_scheduler.mode=max",
        "--lr_scheduler=Plateau --lr_scheduler.monitor=val_los --lr_scheduler.mode=min",
        "--lr_scheduler=Plateau --trainer.limit_val_batches=0",
        "--lr_scheduler=ReduceLROnPlateau --lr_monitor=val_loss --trainer.check_val_every_n_epoch=2",
        "--trainer.callbacks=EarlyStopping --trainer.callbacks.monitor=val_f1",
        "--trainer.callbacks=ModelCheckpoint --trainer.callbacks.monitor=val_f1",
        "--lr_scheduler=Linear --lr_scheduler.over=2ep --trainer.logger=CSVLogger --trainer.logger.save_dir=logs",
        "--lr_scheduler=Linear --lr_scheduler.over=2ep --trainer.default_root_dir=some/where",
    ],
)
def test_what_preview_calls_a_failure_is_not_trained(command, arguments):
    assert command("preview", *arguments.split(), "--png=null") == 1
    (failure,) = said(command.out, "failure")
    assert command("fit", *arguments.split()) == 2
    assert command.err == f"error: {failure} (--audit warn trains anyway)\n"
    assert "Epoch" not in command.out
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        "--lr_scheduler=MultiStepLR --lr_scheduler.milestones=[2,80]",
        "--lr_scheduler=StepLR --lr_scheduler.step_size=30 --trainer.limit_train_batches=2",
        "--lr_scheduler=WarmupLinear --lr_scheduler.warmup=5st --lr_interval=epoch",
    ],
)
def test_what_preview_warns_of_is_told_once_and_trained(command, arguments):
    options = [*arguments.split(), *FEW_EPOCHS.split()]
    assert command("preview", *options[:-1], "--png=null") == 0
    warnings = said(command.out, "warning")
    assert len(warnings) == 1
    assert command("fit", *options) == 0
    assert said(command.out, "warning") == warnings
    assert command.out.index("warning: ") < command.out.index("Epoch")


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.filterwarnings(r"ignore:`ModelCheckpoint\(monitor='val_loss'\)` could not find the monitored key")
def test_a_metric_of_validation_needs_validation_data(tmp_path, capsys):
    callbacks = [ApplySchedule(Plateau()), StartAudit()]
    with pytest.raises(TrainingRefused, match="follows 'val_loss', but there is no validation data: set monitor to"):
        quiet_trainer(*callbacks).fit(Validated(), Numbers())
    quiet_trainer(*callbacks).fit(Validated(), Numbers(), Numbers(1))
    assert "warning" not in capsys.readouterr().out

    # Lightning trains with it, and saves nothing.
    callbacks = [ApplySchedule(Cosine()), StartAudit(), ModelCheckpoint(tmp_path, monitor="val_loss")]
    quiet_trainer(*callbacks, enable_checkpointing=True).fit(Validated(), Numbers())
    (warning,) = said(capsys.readouterr().out, "warning")
    assert warning.startswith("ModelCheckpoint follows 'val_loss', but there is no validation data")


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("--audit=warn", 1),
        ("--audit=off", 0),
        ("--trainer.fast_dev_run=true", 0),
        ("--trainer.limit_train_batches=1", 1),  # one batch, and not all of them
    ],
)
def test_a_failure_is_trained_where_that_is_asked_for(command, level, told):
    arguments = ["--lr_scheduler=Linear", "--lr_scheduler.over=2ep", level]
    assert command("fit", *arguments, *FEW_EPOCHS.split()) == 0
    assert len(said(command.out, "warning")) == told
    assert "the plan" in command.out


def test_folders_of_others_stay_when_a_start_is_refused(command):
    theirs = [Path("logs/lightning_logs/version_0/notes.txt"), Path("logs/lightning_logs/version_3/config.yaml")]
    for path in theirs:
        path.parent.mkdir(parents=True)
        path.write_text("mine")
    refused = ["fit", "--lr_scheduler=Linear", "--lr_scheduler.over=2ep"]
    assert command(*refused, "--trainer.default_root_dir=logs") == 2
    assert command(*refused, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs") == 2
    version = "--trainer.logger.version=0"
    assert command(*refused, "--trainer.logger=TensorBoardLogger", "--trainer.logger.save_dir=logs", version) == 2
    assert sorted(path for path in Path().rglob("*") if path.is_file()) == theirs


@pytest.mark.filterwarnings("ignore:Experiment logs directory .* exists and is not empty")
def test_the_configuration_of_another_run_is_not_overwritten(command):
    logger = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=.", "--trainer.logger.version=0"]
    Path("lightning_logs/version_0").mkdir(parents=True)
    saved = Path("lightning_logs/version_0/config.yaml")
    saved.write_text("mine")
    assert command("fit", *logger) == 2
    assert (
        command.err == "error: an earlier run is in ./lightning_logs/version_0: "
        "give the logger another name or version\n"
    )
    assert saved.read_text() == "mine"


def test_where_nothing_is_trained_no_configuration_is_saved(command):
    assert command("fit", "--trainer.max_epochs=1") == 0
    saved = run_folder() / "config.yaml"
    before = saved.read_text()
    checkpoint = str(run_folder() / "checkpoints/last.ckpt")
    changed = ["--optimizer=SGD", "--optimizer.lr=0.3"]
    assert command("fit", "--trainer.max_epochs=1", *changed, "--ckpt_path", checkpoint) == 0
    assert "Nothing is left to train" in command.out
    assert saved.read_text() == before
    assert command("validate", "--ckpt_path", checkpoint) == 0
    assert saved.read_text() == before
    assert len(list(Path("lightning_logs").iterdir())) == 1


def test_a_run_that_goes_on_without_its_schedule_is_told(tmp_path, capsys):
    trainer = tiny_trainer(max_epochs=2)
    trainer.fit(Tiny(lambda module: schedule_config(module.make_optimizer(), Linear(), module.trainer)))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    going_on = {"ckpt_path": tmp_path / "last.ckpt", "weights_only": False}
    tiny_trainer(max_epochs=3, callbacks=[StartAudit()]).fit(Tiny(Tiny.make_optimizer), **going_on)
    told = "the checkpoint is of a run with a schedule, and this one has none: the learning rate stays at 0; give the"
    assert [told in text for text in said(capsys.readouterr().out, "warning")] == [True]
    with_schedule = tiny_trainer(max_epochs=3, callbacks=[StartAudit(), ApplySchedule(Linear())])
    with pytest.warns(UserWarning, match="Resumed at step 22 of 33"):
        with_schedule.fit(Tiny(Tiny.make_optimizer), **going_on)
    assert told not in capsys.readouterr().out


def test_a_resumed_start_that_is_refused_leaves_the_run_as_it_was(command):
    assert command("fit", "--trainer.max_epochs=2", "--lr_scheduler=Linear") == 0
    before = sorted(Path().rglob("*"))
    resumed = ["fit", "--trainer.max_epochs=4", "--lr_scheduler=Linear", "--on_horizon_change=error"]
    assert command(*resumed, "--ckpt_path", str(run_folder() / "checkpoints/last.ckpt")) == 2
    assert command.err.startswith("error: the checkpoint planned 22 steps")
    assert sorted(Path().rglob("*")) == before


OWN = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lit_lrsched import ScheduleCLI

class Own(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))

    def training_step(self, batch, batch_idx):
        return self.network(batch).square().mean()

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), 1e-3)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)]

class Data(LightningDataModule):
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.rand(20, 3), batch_size=5)

if __name__ == "__main__":
    ScheduleCLI(Own, Data, trainer_defaults={"accelerator": "cpu", "max_epochs": 8, "enable_model_summary": False})
"""


@pytest.mark.exhaustive
def test_another_projects_command_refuses_in_one_line_on_all_processes(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    arguments = ["own.py", "fit", "--trainer.devices=2", "--trainer.strategy=ddp"]
    run = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert run.returncode == 2
    (line,) = said(run.stderr, "error")
    assert "T_max=3 and moves on 8 times" in line
    assert line.endswith("set T_max=8 (--audit warn trains anyway)")
    assert "Traceback" not in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["own.py"]


# --- any Trainer


def by(schedule: Any, interval: Any = None, monitor: str | None = None) -> Any:
    return scheduled(schedule, Tiny.make_optimizer, interval=interval, monitor=monitor)


def test_nothing_is_validated_or_logged_before_a_refusal(tmp_path):
    module = Tiny(by(Linear(over="1ep")))
    trainer = tiny_trainer(callbacks=[StartAudit()], logger=CSVLogger(tmp_path))
    with pytest.raises(TrainingRefused, match=r"is 0 from step 11 .*audit='warn' trains anyway"):
        trainer.fit(module)
    assert module.used == []
    assert not trainer.fit_loop.epoch_loop.val_loop._has_run
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.parametrize("order", [1, -1])
def test_a_schedule_that_a_callback_brings_is_audited(order):
    callbacks = [StartAudit(), ApplySchedule(Linear(over="1ep"))][::order]
    with pytest.raises(TrainingRefused):
        tiny_trainer(callbacks=callbacks).fit(Tiny(Tiny.make_optimizer))


class OwnScheduler(LRScheduler):
    """Somebody's scheduler, of which nothing is known."""

    def get_lr(self) -> list[float]:
        return [base / (1 + self.last_epoch) for base in self.base_lrs]


@pytest.mark.parametrize(
    ("configure", "options"),
    [
        (Tiny.make_optimizer, {}),
        (by(OwnScheduler), {}),
        (by(Linear()), {"callbacks": [GradientAccumulationScheduler({0: 1, 1: 2})]}),
        (by(partial(StepLR, step_size=2)), {"max_epochs": -1, "max_time": {"milliseconds": 1}}),
    ],
    ids=["no schedule", "unknown scheduler", "epochs of many lengths", "no known end"],
)
@pytest.mark.filterwarnings("ignore:.*is not an.*")
def test_nothing_is_said_where_nothing_is_wrong(configure, options, capsys):
    tiny_trainer(callbacks=[StartAudit(), *options.pop("callbacks", [])], **options).fit(Tiny(configure))
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(("own", "stepped", "each"), [("step", "epoch", "an epoch"), ("epoch", "step", "a step")])
def test_a_schedule_that_is_stepped_by_another_interval_than_its_own_is_refused(own, stepped, each):
    def configure_optimizers(module: Tiny):
        optimizer = module.make_optimizer()
        scheduler = ScheduledLR(optimizer, Linear(), Horizon(55, 11), own)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": stepped}}

    told = f"a ScheduledLR with interval='{own}' is stepped once {each}: give Lightning its interval"
    with pytest.raises(TrainingRefused, match=told):
        tiny_trainer(callbacks=[StartAudit()]).fit(Tiny(configure_optimizers))
    # By hand, a module steps it when it likes, whatever the interval.
    module = Tiny(configure_optimizers)
    module.automatic_optimization = False
    tiny_trainer(callbacks=[StartAudit()], max_epochs=1, limit_val_batches=0).fit(module)


def stepped_each_epoch(module: Tiny) -> Any:
    config = schedule_config(module.make_optimizer(), Linear(), module.trainer)
    return [config["optimizer"]], [config["lr_scheduler"]["scheduler"]]


def stepped_each_second_step(module: Tiny) -> Any:
    config = schedule_config(module.make_optimizer(), Linear(), module.trainer)
    return {"optimizer": config["optimizer"], "lr_scheduler": {**config["lr_scheduler"], "frequency": 2}}


def of_two_schedules(module: Tiny) -> Any:
    optimizer = module.make_optimizer()
    configs = [schedule_config(optimizer, one, module.trainer) for one in (Cosine(), Linear())]
    return [optimizer], [config["lr_scheduler"] for config in configs]


@pytest.mark.parametrize(
    ("configure", "told"),
    [
        (stepped_each_epoch, "a ScheduledLR with interval='step' is stepped once an epoch"),
        (stepped_each_second_step, "a ScheduledLR with frequency=2 is not stepped each step, so training ends before"),
        (of_two_schedules, "Linear is the second schedule of one optimizer, and no rate can follow both: leave one"),
    ],
)
@pytest.mark.filterwarnings("ignore:the learning rate of step 1 is")
def test_what_keeps_a_schedule_from_holding_is_told_without_an_audit_too(configure, told):
    with pytest.raises(TrainingRefused, match=told):
        tiny_trainer(callbacks=[StartAudit()]).fit(Tiny(configure))
    with pytest.warns(UserWarning, match=told):
        tiny_trainer(max_epochs=1).fit(Tiny(configure))


def test_another_scheduler_that_sets_the_rate_is_named():
    def configure_optimizers(module: Tiny) -> Any:
        config = schedule_config(module.make_optimizer(), Linear(), module.trainer)
        other = ReduceLROnPlateau(config["optimizer"], patience=0, threshold=100)
        return [config["optimizer"]], [config["lr_scheduler"], {"scheduler": other, "monitor": "val_loss"}]

    told = "the learning rate of step 11 is .* where Linear says .*: ReduceLROnPlateau sets it as well"
    with pytest.warns(UserWarning, match=told):
        tiny_trainer().fit(Tiny(configure_optimizers))


def test_a_scheduler_that_cannot_be_tried_out_is_trained(capsys):
    class Locked(OwnScheduler):
        def __init__(self, optimizer: Any) -> None:
            self.lock = threading.Lock()
            super().__init__(optimizer)

    tiny_trainer(callbacks=[StartAudit()]).fit(Tiny(by(Locked)))
    (warning,) = said(capsys.readouterr().out, "warning")
    assert (
        warning == "the schedule cannot be tried out before training (TypeError: cannot pickle '_thread.lock' object)"
    )


def test_a_guessed_plan_is_no_reason_to_refuse(capsys):
    cosine = partial(CosineAnnealingLR, T_max=2)

    def own(module: Tiny) -> Any:
        optimizer = module.make_optimizer()
        return [optimizer], [cosine(optimizer)]

    # The module may step a scheduler of its own whenever it likes; schedule_config steps it for the module.
    tiny_trainer(callbacks=[StartAudit()]).fit(TinyByHand(own))
    assert any("climbs again" in line for line in said(capsys.readouterr().out, "warning"))
    for module in (TinyByHand(by(cosine)), Tiny(by(cosine)), Tiny(own)):
        with pytest.raises(TrainingRefused, match="climbs again"):
            tiny_trainer(callbacks=[StartAudit()]).fit(module)


def test_a_plateaus_metric_is_looked_for_with_manual_optimization_too():
    with pytest.raises(TrainingRefused, match="the schedule follows 'val_los', which TinyByHand does not log"):
        tiny_trainer(callbacks=[StartAudit()]).fit(TinyByHand(by(Plateau(monitor="val_los", mode="min"))))


class LogsBesides(Tiny):
    """Logs what its source does not name: somebody else does it."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        log_for(self)


def log_for(module: Tiny) -> None:
    module.log("val_f1", 1.0)


def test_a_metric_that_somebody_else_may_log(capsys):
    configure = by(partial(ReduceLROnPlateau, mode="max"), monitor="val_f1")
    tiny_trainer(callbacks=[StartAudit()]).fit(LogsBesides(configure))
    (warning,) = said(capsys.readouterr().out, "warning")
    assert "'val_f1', which the source of LogsBesides does not name" in warning
    with pytest.raises(TrainingRefused, match="'val_f1', which Tiny does not log"):
        tiny_trainer(callbacks=[StartAudit()]).fit(Tiny(configure))
    lenient = EarlyStopping("val_f1", strict=False)
    tiny_trainer(callbacks=[StartAudit(), lenient], max_epochs=1).fit(Tiny(Tiny.make_optimizer))


@pytest.mark.parametrize("options", [{}, {"limit_val_batches": 0}])
def test_the_monitor_of_a_scheduler_that_follows_no_metric_is_nobodys(options, capsys):
    def own(module: Tiny) -> Any:
        optimizer = module.make_optimizer()
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": StepLR(optimizer, 2), "monitor": "val/f1"}}

    tiny_trainer(callbacks=[StartAudit()], **options).fit(Tiny(own))
    assert not said(capsys.readouterr().out, "warning")


def fit_to_epoch(epoch: int, configure: Any, path: Path, **options: Any) -> None:
    trainer = tiny_trainer(max_epochs=epoch)
    trainer.fit(Tiny(configure))
    trainer.save_checkpoint(path, weights_only=False)


def test_of_a_resumed_run_what_is_to_come_is_audited(tmp_path):
    warm = by(Linear(start=0.0, end=1.0, over="2ep"))
    fit_to_epoch(3, warm, tmp_path / "warm.ckpt")
    # Constant from here on, which it is meant to be, and the 0 of the first step is past.
    tiny_trainer(callbacks=[StartAudit()]).fit(Tiny(warm), ckpt_path=tmp_path / "warm.ckpt", weights_only=True)
    gone = by(Linear(over="2ep"))
    fit_to_epoch(3, gone, tmp_path / "gone.ckpt")
    with pytest.raises(TrainingRefused, match=r"is 0 from step 33 \(epoch 3\) to the end"):
        tiny_trainer(callbacks=[StartAudit()]).fit(Tiny(gone), ckpt_path=tmp_path / "gone.ckpt", weights_only=True)


@pytest.mark.parametrize("frequency", [1, 2])
def test_a_plateau_of_torch_may_be_stepped_after_epochs_with_a_validation_alone(frequency):
    def configure(module: Tiny) -> Any:
        optimizer = module.make_optimizer()
        plateau = {"scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_loss", "frequency": frequency}
        return {"optimizer": optimizer, "lr_scheduler": plateau}

    module = Tiny(configure)
    trainer = tiny_trainer(callbacks=[StartAudit()], check_val_every_n_epoch=2, num_sanity_val_steps=0)
    if frequency == 2:  # as Lightning's documentation of configure_optimizers asks for
        trainer.fit(module)
        assert len(module.used) == 55
    else:
        with pytest.raises(TrainingRefused, match=r"check_val_every_n_epoch=2: set its frequency to 2, or use Plateau"):
            trainer.fit(module)


def test_a_long_run_is_not_replayed():
    class Watched(StepLR):
        steps = 0

        def step(self, epoch: int | None = None) -> None:
            Watched.steps += 1
            super().step(epoch)

    module = Tiny(by(partial(Watched, step_size=1000), "step"))
    found: list[Any] = []

    class Look(StartAudit):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            found.extend(audit_fit(trainer))

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.should_stop = True

    callbacks = [Look(), TensorBoardRun()]
    tiny_trainer(callbacks=callbacks, max_epochs=1_000_000, limit_val_batches=0).fit(module)
    (finding,) = found
    assert str(finding) == (
        "warning: Watched moves on 11,000,000 times, too often to be tried out before training: see its preview"
    )
    assert Watched.steps == 1 + 11  # as it is made, and as it trains


def test_a_long_run_of_ours_is_audited_at_few_steps():
    calls = []

    def counted(step: int, horizon: Any) -> float:
        calls.append(step)
        return 1 - step / horizon.steps

    def configure(module: Tiny) -> Any:
        return schedule_config(module.make_optimizer(), counted, module.trainer)

    class Look(StartAudit):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            calls.clear()
            super().on_fit_start(trainer, pl_module)
            trainer.fit_loop.max_epochs = 1
            assert len(calls) < 20_000

    module = Tiny(configure)
    tiny_trainer(callbacks=[Look()], max_epochs=100_000, limit_val_batches=0).fit(module)
    assert isinstance(module.trainer.lr_scheduler_configs[0].scheduler, ScheduledLR)
    assert torch.isfinite(module.head.weight).all()


@pytest.mark.parametrize("of_momentum", [Linear(1.0, 1.2), Constant(1.2)])
def test_a_momentum_that_no_optimizer_takes_is_refused(of_momentum):
    """torch's Adam refuses such betas when it is made, and takes them when they are set later."""
    applied = ApplySchedule(Cosine(), groups={"momentum": of_momentum})
    module = Tiny(lambda module: torch.optim.AdamW(module.parameters(), lr=1e-3))
    with pytest.raises(TrainingRefused, match=r"the momentum/group0 reaches 1\.0\d+, and has to stay below 1"):
        tiny_trainer(callbacks=[applied, StartAudit()]).fit(module)

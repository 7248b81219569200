"""Callbacks of Lightning that change what a schedule was made for: it follows, or it is said before training."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, StochasticWeightAveraging
from lightning.pytorch.tuner import Tuner
from torch.utils.data import DataLoader

from lit_lrsched import (
    ApplySchedule,
    Cosine,
    Horizon,
    LearningRateLogger,
    Linear,
    ScheduledLR,
    ScheduleReport,
    WarmupCosine,
    schedule_config,
    table,
)
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.callbacks.receipt import Receipt
from lit_lrsched.trainer.callbacks.start_audit import StartAudit
from lit_lrsched.trainer.fit_plan import configure, plan_fit
from tests.reading import run_folder, scalars
from tests.training import SaveAt, Used, quiet_trainer

pytestmark = pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`", "ignore:.*ended before the epoch ended"
)
SCHEDULE = Cosine(end=0.1)
EPOCHS, ROWS = 2, 32


class Line(LightningModule):
    """Has the attributes that Lightning's finders look for.

    Args:
        by: Where the schedule comes from: ``configure_optimizers`` or a callback.
        norm: Whether to have a BatchNorm.
    """

    def __init__(self, by: str = "callback", norm: bool = False, lr: float = 0.1, batch_size: int = 2) -> None:
        super().__init__()
        self.by, self.lr, self.batch_size = by, lr, batch_size
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.BatchNorm1d(1) if norm else torch.nn.Identity())

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.net(batch) - 1).pow(2).mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        return schedule_config(optimizer, SCHEDULE, self.trainer) if self.by == "module" else optimizer

    def train_dataloader(self) -> DataLoader:
        rows = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(0))
        return DataLoader(rows, batch_size=self.batch_size)


def trainer_of(by: str, *callbacks: Callback, **options: Any):
    own = [ApplySchedule(SCHEDULE)] if by == "callback" else []
    return quiet_trainer(*own, *callbacks, **{"max_epochs": EPOCHS, **options})


def planned(base: float = 0.1, steps_per_epoch: int = 16, epochs: int = EPOCHS) -> list[float]:
    return [base * factor for factor in table(SCHEDULE, Horizon(epochs * steps_per_epoch, steps_per_epoch))]


@pytest.fixture(autouse=True)
def _seeded(in_tmp, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    seed_everything(0, verbose=False)


def finder() -> LearningRateFinder:
    return LearningRateFinder(num_training_steps=20, early_stop_threshold=None)


both = pytest.mark.parametrize("by", ["callback", "module"])


@both
def test_a_rate_that_was_found_is_the_base_rate(by, caplog):
    used, receipt, finds = Used(), Receipt(), finder()
    trainer_of(by, finds, used, receipt).fit(Line(by))
    found = finds.optimal_lr.suggestion()
    assert found not in (None, 0.1)
    assert used.first_rates == pytest.approx(planned(found))
    base = f"{found:.6g}, set before training by LearningRateFinder"
    assert f"The base learning rate is {base}." in caplog.messages
    assert receipt.text() == f"learning rate followed the plan (32 of 32 steps; the base rate is {base})"
    assert not any("Resumed" in message for message in caplog.messages)


@both
def test_a_run_with_a_found_rate_resumes_at_it(by, tmp_path):
    saver, used, finds = SaveAt(tmp_path), Used(), finder()
    trainer_of(by, finds, saver, used).fit(Line(by))
    tail, receipt = Used(), Receipt()
    trainer_of(by, tail, receipt).fit(Line(by), ckpt_path=saver.paths[19], weights_only=True)
    assert tail.rates == used.rates[20:]
    assert f"the base rate is {finds.optimal_lr.suggestion():.6g}, set before training by something" in receipt.text()


def test_a_found_rate_goes_before_that_of_a_scheduler_that_is_replaced():
    class Decaying(Line):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]

    used, finds = Used(), finder()
    quiet_trainer(finds, ApplySchedule(SCHEDULE, replace=True), used, max_epochs=EPOCHS).fit(Decaying())
    assert used.first_rates == pytest.approx(planned(finds.optimal_lr.suggestion()))


@both
def test_a_rate_that_a_callback_sets_before_training_is_the_base_rate(by, caplog):
    class Sets(Callback):
        def on_fit_start(self, trainer, pl_module):
            trainer.optimizers[0].param_groups[0]["lr"] = 0.25

    used = Used()
    callbacks = [Sets(), ApplySchedule(SCHEDULE)][:: 1 if by == "module" else -1]
    quiet_trainer(*(callbacks if by == "callback" else callbacks[:1]), used, max_epochs=EPOCHS).fit(Line(by))
    assert used.first_rates == planned(0.25)
    told = "The base learning rate is 0.25, set before training by something other than configure_optimizers."
    assert told in caplog.messages


@both
def test_a_batch_size_that_was_found_gives_the_schedule_its_horizon(by):
    used, receipt, module = Used(), Receipt(), Line(by)
    trainer_of(by, BatchSizeFinder(max_trials=2), used, receipt).fit(module)
    assert module.batch_size == 4
    assert used.first_rates == planned(steps_per_epoch=8)
    assert receipt.text() == "learning rate followed the plan (16 of 16 steps)"


def test_the_audit_judges_the_run_with_the_batch_size_that_was_found():
    used, module = Used(), Line("none", batch_size=8)
    finds = BatchSizeFinder(max_trials=2)  # which leaves twice as many steps as the schedule was made for
    quiet_trainer(ApplySchedule(Linear()), ScheduleReport(), finds, used, max_epochs=EPOCHS).fit(module)
    assert module.batch_size == 4
    assert used.first_rates == pytest.approx([0.1 * (1 - step / 16) for step in range(16)])


def test_what_lightning_loses_a_checkpoint_when_it_searches_first(tmp_path):
    saver, used = SaveAt(tmp_path), Used()
    trainer_of("none", saver).fit(Line("none"))
    trainer_of("none", BatchSizeFinder(max_trials=2), used).fit(Line("none"), ckpt_path=saver.paths[9])
    assert len(used.rates) == 16  # every step of two epochs of eight


@pytest.mark.parametrize("find", [BatchSizeFinder, LearningRateFinder])
@pytest.mark.parametrize("by", ["module", "callback", "callback after it"])
def test_so_that_is_refused(by, find, tmp_path):
    saver, used = SaveAt(tmp_path), Used()
    trainer_of("callback", saver).fit(Line())
    own = [ApplySchedule(SCHEDULE)]
    callbacks = {"module": [find()], "callback": [*own, find()], "callback after it": [find(), *own]}[by]
    with pytest.raises(InputError, match=f"{find.__name__} would put the resumed run back to its first step: leave it"):
        quiet_trainer(*callbacks, used, max_epochs=3).fit(Line(by), ckpt_path=saver.paths[9], weights_only=True)
    assert used.rates == []


def test_a_search_at_another_time_is_not(tmp_path):
    class Later(LearningRateFinder):
        def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            pass

    saver, used = SaveAt(tmp_path), Used()
    trainer_of("callback", saver).fit(Line())
    trainer_of("callback", Later(), used).fit(Line(), ckpt_path=saver.paths[9], weights_only=True)
    assert used.first_rates == planned()[10:]


def test_two_schedules_for_one_module_are_refused():
    with pytest.raises(InputError, match="the trainer has two ApplySchedule, and no rate can follow both"):
        quiet_trainer(ApplySchedule(SCHEDULE), ApplySchedule(SCHEDULE)).fit(Line())


def test_a_schedule_that_does_not_fit_the_found_batch_size_is_refused():
    class Warm(Line):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            return schedule_config(optimizer, WarmupCosine("20st"), self.trainer)

    with pytest.raises(InputError, match="needs 20 steps but training has 16"):
        quiet_trainer(BatchSizeFinder(max_trials=2), max_epochs=EPOCHS).fit(Warm("module"))


@both
def test_the_tuner(by):
    used, receipt, module = Used(), Receipt(), Line(by)
    trainer = trainer_of(by, used, receipt)
    assert Tuner(trainer).scale_batch_size(module, max_trials=2) == 4
    found = Tuner(trainer).lr_find(module, num_training=20, early_stop_threshold=None).suggestion()
    trainer.fit(module)
    assert used.first_rates == planned(found, steps_per_epoch=8)
    assert receipt.text() == "learning rate followed the plan (16 of 16 steps)"


@pytest.mark.filterwarnings("ignore:Swapping scheduler", "ignore:SWA is currently only supported")
@pytest.mark.parametrize("norm", [False, True])
@both
def test_averaging_of_weights_is_announced(by, norm):
    # With BatchNorm it adds an epoch, which is none of the schedule's.
    used, receipt = Used(), Receipt()
    trainer = trainer_of(by, StochasticWeightAveraging(0.05, swa_epoch_start=2), used, receipt, max_epochs=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(Line(by, norm))
    told = [str(warning.message) for warning in caught if "StochasticWeightAveraging" in str(warning.message)]
    assert told == [
        "StochasticWeightAveraging sets the learning rate itself from its swa_epoch_start on: the plan holds until then"
    ]
    assert used.first_rates[:17] == planned(epochs=4)[:17]
    assert "left the plan at step 17 (epoch 1)" in receipt.text()
    assert "the scheduler was replaced during training" in receipt.text()


@pytest.mark.filterwarnings("ignore:SWA is", "ignore:StochasticWeightAveraging sets the learning rate itself")
@both
def test_averaging_of_weights_that_has_begun_goes_on(by, tmp_path, capsys):
    def average(*callbacks: Callback, **resumed: Any) -> list[float]:
        used = Used()
        averaging = StochasticWeightAveraging(0.05, swa_epoch_start=1, annealing_epochs=1)
        trainer = trainer_of(by, averaging, used, StartAudit(), Receipt(), *callbacks, max_epochs=4)
        trainer.fit(Line(by), **resumed)
        return used.first_rates

    whole = average(SaveAt(tmp_path))
    capsys.readouterr()
    assert average(ckpt_path=tmp_path / "47.ckpt", weights_only=False) == whole[48:]
    assert capsys.readouterr().out == (
        "learning rate was not checked against a plan: StochasticWeightAveraging sets it\n"
    )


def test_an_optimizer_step_that_sets_rates_is_announced():
    class Warming(Line):
        def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
            for group in optimizer.param_groups:
                group["lr"] = 0.001
            optimizer.step(closure=optimizer_closure)

    with pytest.warns(UserWarning, match="Warming.optimizer_step uses param_groups: .* what is set last"):
        trainer_of("callback").fit(Warming())


@pytest.mark.parametrize(
    "hook",
    [
        "on_train_batch_start",
        "on_before_zero_grad",
        "on_after_backward",
        "training_step",
        "on_before_optimizer_step",
        "configure_gradient_clipping",
    ],
)
@pytest.mark.parametrize("by", ["callback", "module"])
def test_another_hook_that_sets_rates_is_told_once(by, hook):
    class Warming(Line):
        pass

    def set_rate(self, *args, **options):
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = 0.001
        return getattr(Line, hook)(self, *args, **options)

    setattr(Warming, hook, set_rate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer_of(by).fit(Warming(by))
    told = [
        str(warning.message) for warning in caught if "the learning rate of step 0 is 0.001" in str(warning.message)
    ]
    assert len(told) == 1
    assert ": Warming, a callback or SGD itself sets it as well, and what is set last counts" in told[0]


@pytest.mark.parametrize(
    ("callback", "told"),
    [
        (finder(), "LearningRateFinder sets another base rate before training: shown for the configured one"),
        (BatchSizeFinder(), "BatchSizeFinder changes the number of steps before training: shown for the configured"),
        (StochasticWeightAveraging(0.05), "StochasticWeightAveraging sets the learning rate itself from its swa_epoch"),
    ],
)
def test_a_plan_says_so_too(callback, told):
    trainer = trainer_of("callback", callback)
    plan, findings = plan_fit(trainer, configure(trainer, Line()))
    assert [plan.at(step)["lr/group0"] for step in range(32)] == planned()
    assert [finding.level for finding in findings] == ["warning"]
    assert findings[0].text.startswith(told)


def test_through_the_command(command, caplog):
    callbacks = ["--trainer.callbacks=LearningRateFinder", "--trainer.callbacks.num_training_steps=20"]
    callbacks += ["--trainer.callbacks.early_stop_threshold=null", "--trainer.log_every_n_steps=1"]
    model = ["--model", f"{__name__}.Line", "--lr_scheduler", "Cosine", "--lr_scheduler.end=0.1"]
    assert command("fit", *model, *callbacks, "--trainer.max_epochs=2", "--lr_logger.each_step=true") == 0
    base = scalars(run_folder(), "lr/group0")[0]
    assert base != pytest.approx(0.1)
    assert scalars(run_folder(), "lr/group0") == pytest.approx(planned(base), rel=1e-6)
    told = f"the base rate is {base:.6g}, set before training by LearningRateFinder)"
    assert f"learning rate followed the plan (32 of 32 steps; {told}" in command.out


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": None, "max_steps": 17}, 17),
        ({"max_epochs": -1, "max_steps": 17}, 17),
        ({"max_epochs": 1, "max_steps": 17}, 16),
        ({"max_epochs": None, "max_steps": 17, "max_time": "00:01:00:00"}, 17),
        ({"max_epochs": 2, "max_time": "00:01:00:00"}, 32),
    ],
)
@both
def test_limits_of_training(options, steps, by):
    trainer = trainer_of(by, **options)
    plan, _ = plan_fit(trainer, configure(trainer, Line(by)))
    assert plan.horizon == Horizon(steps, 16)
    used, receipt = Used(), Receipt()
    trainer_of(by, used, receipt, **options).fit(Line(by))
    assert used.first_rates == [plan.at(step)["lr/group0"] for step in range(steps)]
    assert receipt.text() == f"learning rate followed the plan ({steps} of {steps} steps)"


def test_no_limit_at_all_is_a_thousand_epochs_as_for_lightning():
    trainer = trainer_of("callback", max_epochs=None)
    with pytest.warns(UserWarning, match="Setting it to 1000 epochs"):
        plan, _ = plan_fit(trainer, configure(trainer, Line()))
    assert plan.horizon == Horizon(16000, 16)


@pytest.mark.parametrize("options", [{"max_epochs": -1}, {"max_epochs": None, "max_time": "00:00:00:01"}])
def test_no_known_end_is_refused(options):
    for run in (lambda trainer: configure(trainer, Line()), lambda trainer: trainer.fit(Line())):
        with pytest.raises(InputError, match=r"trains without end, as max_time alone does, .*: set max_epochs or max_"):
            run(trainer_of("callback", **options))


@pytest.mark.parametrize("scope", ["network", "module"])
@both
def test_what_is_compiled(scope, by):
    module = Line(by)
    if scope == "network":
        module.net = torch.compile(module.net, backend="aot_eager")
    used, receipt = Used(), Receipt()
    compiled = torch.compile(module, backend="aot_eager") if scope == "module" else module
    trainer_of(by, used, receipt, LearningRateLogger()).fit(compiled)
    assert used.first_rates == planned()
    assert receipt.text() == "learning rate followed the plan (32 of 32 steps)"


class Compiled(Line):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(self.net, backend="aot_eager")


def test_a_compiled_network_through_the_command(command):
    options = ["--lr_scheduler=Cosine", "--lr_scheduler.end=0.1", "--optimizer=SGD", "--optimizer.lr=0.1"]
    options += ["--trainer.max_epochs=2", "--trainer.log_every_n_steps=1"]
    assert command("fit", "--model", f"{__name__}.Compiled", *options) == 0
    assert "learning rate followed the plan (32 of 32 steps)" in command.out
    assert command("preview", "--model", f"{__name__}.Compiled", *options) == 0


def test_a_scheduler_made_by_hand_keeps_its_horizon():
    class Own(Line):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
            scheduler = ScheduledLR(optimizer, SCHEDULE, Horizon(64))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    used, receipt = Used(), Receipt()
    quiet_trainer(BatchSizeFinder(max_trials=2), used, receipt, max_epochs=EPOCHS).fit(Own("own"))
    assert used.first_rates == [0.1 * factor for factor in table(SCHEDULE, Horizon(64))][:16]

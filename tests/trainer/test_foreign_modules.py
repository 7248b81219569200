"""Modules that this package has never seen: they get the rates of the schedule, or a reason why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, get_args, get_type_hints

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import BackboneFinetuning
from lightning.pytorch.cli import ReduceLROnPlateau as PlateauOfCLI
from lightning.pytorch.demos.boring_classes import (
    BoringDataModule,
    BoringDataModuleNoLen,
    BoringModel,
    DemoModel,
    IterableBoringDataModule,
    ManualOptimBoringModel,
)
from lightning.pytorch.demos.lstm import LightningLSTM
from lightning.pytorch.demos.transformer import LightningTransformer, WikiText2
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import SGD, Adam, lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched import (
    ApplySchedule,
    Constant,
    Horizon,
    Linear,
    Plateau,
    Product,
    Schedule,
    ScheduledLR,
    ScheduleReport,
    WarmupCosine,
    find_lr,
    schedule_config,
    table,
)
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.callbacks.start_audit import StartAudit
from lit_lrsched.trainer.fit_plan import configure as configure_fit
from lit_lrsched.trainer.fit_plan import plan_fit
from tests.training import (
    Endless,
    Numbers,
    SaveAt,
    Small,
    Used,
    lookahead,
    quiet_trainer,
    run_script,
    scheduled,
    sgd,
    used_by,
)

SCHEDULE = WarmupCosine(warmup="25%", end=0.1)


def expected(horizon: Horizon, base: float = 0.1, schedule: Schedule = SCHEDULE) -> list[float]:
    return [base * factor for factor in table(schedule, horizon)]


def fit(module: LightningModule, *arguments: Any, by: str = "callback", groups: Any = None, **options: Any) -> Used:
    """Fits a module under SCHEDULE, which it gets from the callback or from its own ``configure_optimizers``."""
    used = Used()
    callbacks = [used]
    if by == "callback":
        callbacks.append(ApplySchedule(SCHEDULE, groups=groups, replace=True))
    else:
        make = module.configure_optimizers

        def configure_optimizers() -> Any:
            made = make()
            return schedule_config(made[0][0] if isinstance(made, tuple) else made, SCHEDULE, module.trainer)

        module.configure_optimizers = configure_optimizers
    quiet_trainer(*callbacks, **{"max_epochs": 2, "limit_train_batches": 6, "limit_val_batches": 1, **options}).fit(
        module, *arguments
    )
    return used


both = pytest.mark.parametrize("by", ["callback", "configure_optimizers"])


@both
@pytest.mark.parametrize("data", [None, BoringDataModule, BoringDataModuleNoLen])
def test_boring_model(data, by):
    used = fit(BoringModel(), *([data()] if data else []), by=by)
    assert used.first_rates == expected(Horizon(12, 6))


class Together(BoringModel):
    """For batches from several loaders."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return sum(self.step(part.popitem()[1] if isinstance(part, dict) else part) for part in batch)


@both
def test_many_loaders_at_once(by):
    class Loaders(IterableBoringDataModule):
        def train_dataloader(self) -> list[DataLoader]:
            return [DataLoader(torch.ones(length, 32)) for length in (3, 5)]

    # The longest counts: the default of Lightning's CombinedLoader starts the shorter one again.
    assert fit(Together(), Loaders(), by=by, limit_val_batches=0).first_rates == expected(Horizon(10, 5))


@both
def test_demo_model(by):
    loader = DataLoader(torch.rand(6, 1, 32))
    assert fit(DemoModel(learning_rate=0.02), loader, by=by).first_rates == expected(Horizon(12, 6), base=0.02)


@both
@pytest.mark.parametrize("kind", [LightningTransformer, LightningLSTM])
def test_language_models_of_the_demos(kind, by, in_tmp, monkeypatch):
    # Where they look for WikiText2, a text of its shape.
    monkeypatch.setattr(WikiText2, "download", lambda *_: None)
    (in_tmp / "data").mkdir()
    text = "\n".join(f" the quick brown fox number {n % 7} jumps over the lazy dog \n" for n in range(500))
    (in_tmp / "data" / "wikitext-2.txt").write_text(text)
    base = 0.1 if kind is LightningTransformer else 20.0
    used = fit(kind(vocab_size=20), by=by, limit_train_batches=2)
    assert used.first_rates == expected(Horizon(4, 2), base)


def test_manual_optimisation():
    assert fit(ManualOptimBoringModel()).first_rates == expected(Horizon(12, 6))
    # max_steps counts what the module does by hand; one step a batch, so it is known where training ends
    assert fit(ManualOptimBoringModel(), max_steps=8, max_epochs=-1).first_rates == expected(Horizon(8, 6))
    held = used_by(
        ManualOptimBoringModel(),
        ApplySchedule(Linear(), interval="epoch", replace=True),
        data=DataLoader(torch.ones(4, 32)),
        limit_val_batches=0,
    )
    assert held.epochs() == pytest.approx([0.1, 0.1 * 2 / 3, 0.1 / 3])
    assert held.first_rates == [rate for rate in held.epochs() for _ in range(4)]


class Adversaries(LightningModule):
    """Two networks with an optimizer each, trained against one another, and one of them twice as often."""

    automatic_optimization = False

    def __init__(self, configure: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.generator, self.critic = nn.Linear(1, 1), nn.Linear(1, 1)
        self.configure = configure

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        generator, critic = self.optimizers()
        for optimizer, sign in ((critic, 1), (critic, 1), (generator, -1)):
            optimizer.zero_grad()
            self.manual_backward(sign * self.critic(self.generator(batch)).sum())
            optimizer.step()
        if self.configure:
            for scheduler in self.lr_schedulers():
                scheduler.step()

    def configure_optimizers(self) -> Any:
        optimizers = SGD(self.generator.parameters(), lr=0.1), Adam(self.critic.parameters(), lr=0.01)
        return [self.configure(optimizer) for optimizer in optimizers] if self.configure else list(optimizers)


@both
def test_two_optimizers_that_take_different_numbers_of_steps(by):
    if by == "callback":
        used = used_by(Adversaries(), ApplySchedule(SCHEDULE))
    else:
        module = Adversaries(lambda optimizer: schedule_config(optimizer, SCHEDULE, module.trainer))
        used = used_by(module)
    # A step of the schedule is a batch here, however many steps of which optimizer it makes.
    assert [rates[0] for rates in used.by_optimizer[0]] == expected(Horizon(12, 4))
    assert [rates[0] for rates in used.by_optimizer[1][::2]] == expected(Horizon(12, 4), base=0.01)
    assert used.by_optimizer[1][::2] == used.by_optimizer[1][1::2]


def test_max_steps_that_counts_many_steps_a_batch_is_refused():
    message = r"max_steps=30 counts every optimizer step of Adversaries, 3 in 1 batches, .*set max_epochs"
    with pytest.raises(InputError, match=message):
        used_by(Adversaries(), ApplySchedule(SCHEDULE), max_steps=30, max_epochs=-1)
    module = Adversaries(lambda optimizer: schedule_config(optimizer, SCHEDULE, module.trainer))
    with pytest.raises(InputError, match=message):
        used_by(module, max_steps=30, max_epochs=-1)
    # a limit that is in batches, and the schedule fits
    assert len(used_by(Adversaries(), ApplySchedule(SCHEDULE), max_epochs=1).by_optimizer[0]) == 4


def test_several_optimizers_resume(tmp_path):
    saver = SaveAt(tmp_path)
    whole = used_by(Adversaries(), saver, ApplySchedule(SCHEDULE))
    tail = used_by(Adversaries(), ApplySchedule(SCHEDULE), ckpt=saver.paths[6])
    assert tail.by_optimizer == {0: whole.by_optimizer[0][7:], 1: whole.by_optimizer[1][14:]}


def test_a_plateau_on_a_module_that_steps_by_hand():
    class Validated(Adversaries):
        def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
            self.log("val_loss", 1.0, batch_size=1)

    used = used_by(Validated(), ApplySchedule(Plateau(patience=0, factor=0.5)), val=Numbers(1), max_epochs=4)
    assert [rates[0] for rates in used.by_optimizer[0][::4]] == pytest.approx([0.1, 0.1, 0.05, 0.025])
    assert [rates[0] for rates in used.by_optimizer[1][::8]] == pytest.approx([0.01, 0.01, 0.005, 0.0025])
    message = "ReduceLROnPlateau does not work with manual optimization: use Plateau"
    with pytest.raises(InputError, match=message):
        used_by(Validated(), ApplySchedule(lr_scheduler.ReduceLROnPlateau, monitor="val_loss"), val=Numbers(1))


@both
@pytest.mark.parametrize("named", [True, False])
def test_two_groups_with_rates_of_their_own(named, by):
    class TwoGroups(Small):
        def __init__(self) -> None:
            super().__init__(self.make)
            self.head = nn.Parameter(torch.ones(1))

        def make(self, _: Any) -> SGD:
            groups = [{"params": [self.weights], "lr": 0.01}, {"params": [self.head], "lr": 0.5}]
            if named:
                groups[0]["name"], groups[1]["name"] = "backbone", "head"
            return SGD(groups)

    used = fit(TwoGroups(), Numbers(), by=by)
    both_rates = list(zip(*used.rates, strict=True))
    assert list(both_rates[0]) == expected(Horizon(8, 4), base=0.01)
    assert list(both_rates[1]) == expected(Horizon(8, 4), base=0.5)


class Pictures(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=3e-4)


pictures = DataLoader(TensorDataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 2), batch_size=4)


@both
def test_a_convolutional_network(by):
    assert fit(Pictures(), pictures, by=by).first_rates == expected(Horizon(10, 5), base=3e-4)


@both
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")  # the compiler has much to say that is not about this
def test_a_compiled_network(by):
    module = Pictures()
    module.network = torch.compile(module.network)
    try:
        used = fit(module, pictures, by=by)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        pytest.skip(f"no compiler here: {error}")
    assert used.first_rates == expected(Horizon(10, 5), base=3e-4)


@both
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")
def test_parameters_that_are_made_by_the_first_batch(by):
    class Lazy(Pictures):
        def __init__(self) -> None:
            super().__init__()
            self.network[-1] = nn.LazyLinear(2)

    module = Lazy()
    before = module.network[-1]
    assert fit(module, pictures, by=by).first_rates == expected(Horizon(10, 5), base=3e-4)
    assert before.weight.shape == (2, 144)
    assert before.weight.grad is not None


@both
def test_parameters_that_are_made_by_configure_model(by):
    class Configured(Pictures):
        def configure_model(self) -> None:
            self.more = nn.Linear(1, 1)

    assert fit(Configured(), pictures, by=by).first_rates == expected(Horizon(10, 5), base=3e-4)


class Backbone(LightningModule):
    """A frozen backbone, which :class:`BackboneFinetuning` looks for by this name, and a head."""

    def __init__(self, configure: Callable[[LightningModule], Any]) -> None:
        super().__init__()
        self.backbone, self.head = nn.Linear(1, 3), nn.Linear(3, 1)
        self.configure = configure

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.head(self.backbone(batch)).square().mean()

    def configure_optimizers(self) -> Any:
        return self.configure(self)


def head_only(module: Any) -> SGD:
    return SGD([parameter for parameter in module.parameters() if parameter.requires_grad], lr=0.1, momentum=0.8)


def finetuning() -> BackboneFinetuning:
    # unfrozen in epoch 2, at a tenth of the head's rate; in each later epoch it asks for twice the rate before
    return BackboneFinetuning(2, lambda epoch: 2.0, backbone_initial_ratio_lr=0.1, should_align=False)


def finetuned(order: str, *callbacks: Any, **options: Any) -> Used:
    groups = {"momentum": Linear(end=0.5)}
    apply = ApplySchedule(Linear(), groups=groups)
    chosen = {
        "callback first": (head_only, [apply, finetuning()]),
        "callback last": (head_only, [finetuning(), apply]),
        "configure_optimizers": (scheduled(Linear(), head_only, groups=groups), [finetuning()]),
    }
    configure, own = chosen[order]
    return used_by(Backbone(configure), *own, *callbacks, max_epochs=5, **options)


ORDERS = ["callback first", "callback last", "configure_optimizers"]


@pytest.mark.filterwarnings("ignore:The provided params to be frozen")
@pytest.mark.parametrize("order", ORDERS)
def test_a_backbone_that_is_unfrozen_later(order):
    used = finetuned(order)
    # Linear over 20 steps. The backbone joins at step 8, where the head has 0.1 * 12/20 = 0.06, with 0.006, and falls
    # along with it: a tenth of the head's rate throughout epoch 2. At steps 12 and 16 the finetuning sets twice what it
    # set last (0.006, 0.012, 0.024), and from there the backbone falls as the head does.
    head = [0.1 * (1 - n / 20) for n in range(20)]
    assert used.first_rates == pytest.approx(head)
    assert [len(rates) for rates in used.rates] == [1] * 8 + [2] * 12
    backbone = [rates[1] for rates in used.rates[8:]]
    starts = {8: 0.006, 12: 0.012, 16: 0.024}
    assert backbone == pytest.approx([starts[n // 4 * 4] * head[n] / head[n // 4 * 4] for n in range(8, 20)])
    # The backbone has its momentum from the optimizer's defaults, 0.8, and from the next step on follows the head's.
    momenta = [0.8 * (1 - n / 40) for n in range(20)]
    assert [of_groups[0] for of_groups in used.momenta] == pytest.approx(momenta)
    assert [of_groups[1] for of_groups in used.momenta[8:]] == pytest.approx([0.8, *momenta[9:]])


@pytest.mark.filterwarnings("ignore:The provided params to be frozen")
@pytest.mark.parametrize("order", ORDERS)
def test_a_backbone_that_is_unfrozen_later_resumes(order, tmp_path):
    (tmp_path / "epochs").mkdir()
    batches, epochs = SaveAt(tmp_path), SaveAt(tmp_path / "epochs", "on_train_epoch_end")
    whole = finetuned(order, batches, epochs)
    # From a checkpoint of an epoch's last batch Lightning resumes without starting the next epoch: there the finetuning
    # itself would miss its time. From the epoch's end it does not.
    for steps in range(1, 20):
        ckpt = epochs.paths[steps // 4 - 1] if steps % 4 == 0 else batches.paths[steps - 1]
        resumed = finetuned(order, ckpt=ckpt)
        assert resumed.rates == whole.rates[steps:], steps
        assert resumed.momenta == whole.momenta[steps:], steps


class LooksAhead(Small):
    """Notes the rates that the optimizer inside of its Lookahead uses."""

    def configure_optimizers(self) -> Any:
        inner = sgd(self)
        self.used = []
        inner.register_step_pre_hook(lambda *_: self.used.append(inner.param_groups[0]["lr"]))
        return lookahead(inner)


def test_an_optimizer_that_does_not_tell_of_its_steps(capsys):
    torch.optim.Optimizer([torch.zeros(1)], {})  # from then on its class has a step that calls hooks
    module = LooksAhead()
    quiet_trainer(ApplySchedule(SCHEDULE), ScheduleReport()).fit(module, Numbers())
    assert module.used == expected(Horizon(12, 4))
    assert (
        "learning rate was not checked against a plan: Lookahead does not tell of its steps" in capsys.readouterr().out
    )


class SetsRates(Small):
    """Sets the rate itself before the third step."""

    def on_train_batch_start(self, batch: torch.Tensor, batch_idx: int) -> None:
        if self.global_step == 2:
            self.trainer.optimizers[0].param_groups[0]["lr"] = 0.5


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_rate_that_the_module_sets_is_told_also_where_the_optimizer_does_not_tell_of_its_steps(wrapped):
    module = SetsRates(lambda module: lookahead(sgd(module)) if wrapped else sgd(module))
    with pytest.warns(UserWarning, match=r"the learning rate of step 2 is 0.5 where WarmupCosine says"):
        used_by(module, ApplySchedule(SCHEDULE))


@pytest.mark.filterwarnings("ignore:.*this fit will run with no optimizer")
def test_a_module_without_an_optimizer_is_refused():
    with pytest.raises(InputError, match="Small has no optimizer, so there is no learning rate to schedule"):
        used_by(Small(lambda module: None), ApplySchedule(SCHEDULE))


class OwnRates(torch.optim.Optimizer):
    """Works out its own rates, as Adafactor of transformers does without one."""

    def __init__(self, module: LightningModule) -> None:
        super().__init__(module.parameters(), {"lr": None})


@pytest.mark.parametrize("schedule", [SCHEDULE, partial(lr_scheduler.StepLR, step_size=1)])
def test_an_optimizer_without_a_rate_is_refused(schedule):
    told = "OwnRates has no lr in its param group group0, so there is nothing to schedule: give it one, like lr=0.1"
    with pytest.raises(InputError, match=told):
        used_by(Small(OwnRates), ApplySchedule(schedule))
    with pytest.raises(InputError, match=told):
        ScheduledLR(OwnRates(Small()), SCHEDULE, Horizon(12))


class Relative(SGD):
    """Sets its steps by their number, as Adafactor does with ``relative_step``."""

    def __init__(self, module: LightningModule, lr: float = 0.1) -> None:
        super().__init__([{"params": list(module.parameters()), "relative_step": True}], lr=lr)


class ShowsRates(lr_scheduler.LambdaLR):
    """Shows what its optimizer has worked out, as AdafactorSchedule of transformers does: 0 before the first step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer, lambda step: 0.0)

    def get_lr(self) -> list[float]:
        weight = self.optimizer.param_groups[0]["params"][0]
        return [0.001 * (weight in self.optimizer.state)]


def test_a_rate_that_the_optimizer_works_out_is_not_scheduled(tmp_path):
    told = (
        r"Relative works out its learning rate itself \(relative_step=True\), so there is nothing to schedule: give it"
    )
    with pytest.raises(InputError, match=told):
        used_by(Small(Relative), ApplySchedule(SCHEDULE))
    with pytest.raises(InputError, match=told):
        ScheduledLR(Relative(Small()), SCHEDULE, Horizon(12))
    with pytest.raises(InputError, match=told):
        find_lr(partial(Small, Relative), OneNumber, epochs=1, seeds=2, folder=tmp_path)


class OneNumber(LightningDataModule):
    def train_dataloader(self) -> Any:
        return Numbers()


def test_a_scheduler_that_shows_what_the_optimizer_works_out_trains(capsys):
    def configure(module: LightningModule) -> Any:
        optimizer = Relative(module)
        return [optimizer], [{"scheduler": ShowsRates(optimizer), "interval": "step"}]

    used_by(Small(configure), ScheduleReport(), StartAudit())
    assert capsys.readouterr().out == (
        "learning rate was not checked against a plan: Relative works it out itself (relative_step=True)\n"
    )
    trainer, module = quiet_trainer(), Small(configure)
    module.train_dataloader = Numbers
    plan, findings = plan_fit(trainer, configure_fit(trainer, module))
    assert plan.notes == ["Relative works out its learning rate itself (relative_step=True): shown as it begins."]
    assert not findings


def in_layers(module: LightningModule, **options: Any) -> SGD:
    first, last = nn.Parameter(torch.zeros(1)), module.weights
    return SGD([{"params": [first], "lr_scale": 0.5, **options}, {"params": [last], "lr_scale": 1.0}], lr=0.1)


def test_an_lr_scale_that_only_timm_multiplies_by_is_told(recwarn):
    told = r"the param groups' lr_scale \(0.5, 1\) is left out, as only timm's schedulers multiply rates by it"
    with pytest.warns(UserWarning, match=told):
        used_by(Small(in_layers), ApplySchedule(SCHEDULE))
    trainer, module = quiet_trainer(ApplySchedule(SCHEDULE)), Small(in_layers)
    module.train_dataloader = Numbers
    (finding,) = plan_fit(trainer, configure_fit(trainer, module))[1]
    assert re.match(told, finding.text)
    recwarn.clear()
    used_by(Small(partial(in_layers, lr=0.05)), ApplySchedule(SCHEDULE))  # within the rates
    assert not [warning for warning in recwarn if "lr_scale" in str(warning.message)]


def with_scheduler(make: Callable[[SGD], Any]) -> Small:
    def configure(module: LightningModule) -> Any:
        optimizer = sgd(module)
        return [optimizer], [make(optimizer)]

    return Small(configure)


class WithOwnStep(lr_scheduler.LRScheduler):
    """Sets the rates in a ``step`` of its own, and begins at its lowest, as schedulers with restarts and warmup do."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        self.set(0.001)

    def set(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self, epoch: int | None = None) -> None:
        self.last_epoch += 1
        self.set(0.07)


REPLACED = {
    "WithOwnStep": WithOwnStep,
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 1),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.1),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12, cycle_momentum=False),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.001, 0.1, cycle_momentum=False),
    "CosineAnnealingWarmRestarts": lambda optimizer: lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1), lr_scheduler.CyclicLR(optimizer, 0.001, 0.1, cycle_momentum=False)],
        [2],
    ),
    "ReduceLROnPlateau": lambda optimizer: {
        "scheduler": lr_scheduler.ReduceLROnPlateau(optimizer),
        "monitor": "train_loss",
    },
    "ScheduledLR": None,
}


def has_scheduler(name: str) -> Small:
    return with_scheduler(REPLACED[name]) if REPLACED[name] else Small(scheduled(Linear(0.3)))


@pytest.mark.parametrize("name", REPLACED)
def test_a_scheduler_of_the_modules_own_is_refused(name):
    message = f"Small already has {name}: remove it from configure_optimizers, or set replace=True to take its place"
    with pytest.raises(InputError, match=message):
        used_by(has_scheduler(name), ApplySchedule(SCHEDULE))


@pytest.mark.parametrize("name", REPLACED)
def test_a_scheduler_of_the_modules_own_is_replaced_on_request(name, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    used = used_by(has_scheduler(name), ApplySchedule(SCHEDULE, replace=True))
    # from the rate that the optimizer was given, or the peak of a scheduler that overwrites that with its own
    assert used.first_rates == expected(Horizon(12, 4))
    assert f"WarmupCosine takes the place of Small's {name}, on the base rate 0.1." in caplog.messages


class StepsByHand(Small):
    """Keeps its scheduler to itself."""

    def configure_optimizers(self) -> Any:
        optimizer = sgd(self)
        self.scheduler = lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20, cycle_momentum=False)
        return optimizer

    def on_train_batch_end(self, *_: Any) -> None:
        self.scheduler.step()


def test_a_scheduler_that_is_stepped_by_hand_goes_on_and_is_told():
    with pytest.warns(
        UserWarning, match="the learning rate of step 1 is .* StepsByHand, a callback or SGD itself sets"
    ):
        used = used_by(StepsByHand(), ApplySchedule(SCHEDULE))
    assert used.first_rates[0] == expected(Horizon(12, 4))[0]  # of its peak


def test_a_rate_that_a_warmup_has_dampened_is_not_the_base_rate():
    """What pytorch_warmup does, whose warmup is made after the scheduler: the rate is a share of the scheduler's."""

    def dampened(optimizer: torch.optim.Optimizer) -> lr_scheduler.LRScheduler:
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 12)
        optimizer.param_groups[0]["lr"] /= 6
        return scheduler

    used = used_by(with_scheduler(dampened), ApplySchedule(SCHEDULE, replace=True))
    assert used.first_rates == expected(Horizon(12, 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12),
        lambda optimizer: lr_scheduler.CyclicLR(optimizer, 0.001, 0.1),
    ],
    ids=["OneCycleLR", "CyclicLR"],
)
def test_momentum_that_a_replaced_scheduler_cycled_is_the_optimizers_own_again(make):
    used = used_by(with_scheduler(make), ApplySchedule(SCHEDULE, replace=True))
    assert used.momenta == [[0.9]] * 12


def test_what_a_replaced_schedule_of_ours_drove_is_the_optimizers_own_again():
    groups = {"momentum": Linear(0.5, 1.0), "weight_decay": SCHEDULE}
    used = used_by(Small(scheduled(Linear(), groups=groups)), ApplySchedule(SCHEDULE, replace=True))
    assert used.momenta == [[0.9]] * 12
    assert used.decays == [[0.01]] * 12


def test_type_checkers_take_it_for_what_configure_optimizers_returns():
    assert get_type_hints(schedule_config)["return"] in get_args(OptimizerLRScheduler)


def test_a_scheduler_of_torch_is_put_on_a_module_as_well():
    def halving(optimizer: SGD) -> lr_scheduler.StepLR:
        return lr_scheduler.StepLR(optimizer, 1, 0.5)

    assert used_by(Small(), ApplySchedule(halving)).epochs() == pytest.approx([0.1, 0.05, 0.025])
    by_step = used_by(Small(), ApplySchedule(halving, interval="step"), max_epochs=1)
    assert by_step.first_rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    endless = used_by(
        Small(), ApplySchedule(halving, interval="step"), data=Endless(), max_epochs=2
    )  # needs no horizon
    assert endless.first_rates == pytest.approx([0.1 * 0.5**n for n in range(8)])


def test_a_plateau_of_lightning_cli_names_its_metric_itself():
    rises = partial(PlateauOfCLI, monitor="train_loss", mode="max", patience=0, factor=0.5)
    with pytest.raises(InputError, match="cuts the rate while 'train_loss' gets better"):
        used_by(Small(), ApplySchedule(rises))
    falls = partial(PlateauOfCLI, monitor="train_loss", patience=0, threshold=100, factor=0.5)
    assert used_by(Small(), ApplySchedule(falls)).epochs() == [0.1, 0.05, 0.025]  # no loss falls below -99 times itself


CONFIG = """
trainer:
  max_epochs: 1
  limit_train_batches: 20
  limit_val_batches: 0
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lit_lrsched.ApplySchedule
      init_args:
        schedule:
          class_path: lit_lrsched.WarmupCosine
          init_args: {warmup: 5%}
        replace: true
    - class_path: lit_lrsched.LearningRateLogger
      init_args: {print_each_epoch: true}
"""
NESTED = """
trainer:
  accelerator: cpu
  callbacks:
    class_path: lit_lrsched.ApplySchedule
    init_args:
      interval: epoch
      groups:
        weight_decay: {class_path: lit_lrsched.Linear, init_args: {end: 0.5}}
      schedule:
        class_path: lit_lrsched.Plateau
        init_args:
          monitor: val_acc
          mode: max
          schedule:
            class_path: lit_lrsched.Chain
            init_args:
              phases:
                - {schedule: {class_path: lit_lrsched.Linear, init_args: {start: 0.1, end: 1.0}}, lasts: 5st}
                - schedule: {class_path: lit_lrsched.Product, init_args: {schedules: [Cosine, Rex]}}
"""


class Remembers(Small):
    def __init__(self, schedule: Any = None, groups: Any = None, others: Any = ()) -> None:
        super().__init__(partial(self._configure, schedule=schedule, groups=groups))
        self.save_hyperparameters()

    @staticmethod
    def _configure(module: LightningModule, schedule: Any, groups: Any) -> Any:
        return schedule_config(sgd(module), schedule, module.trainer, groups=groups)


def test_a_schedule_among_the_hyperparameters_is_logged_and_saved_as_plain_values(tmp_path):
    module = Remembers(Linear(end=0.5), {"momentum": Constant()}, (Constant(),))
    plain = {"class_path": "lit_lrsched.Linear", "init_args": {"start": 1.0, "end": 0.5, "over": None}}
    saver = SaveAt(tmp_path)
    whole = used_by(module, saver, logger=CSVLogger(tmp_path, version=0), log_every_n_steps=1)
    logged = yaml.safe_load((tmp_path / "lightning_logs/version_0/hparams.yaml").read_text())
    assert logged["schedule"] == plain
    assert logged["groups"]["momentum"]["class_path"] == "lit_lrsched.Constant"
    assert module.hparams["schedule"] == Linear(end=0.5)
    resumed = used_by(Remembers(Linear(end=0.5), {"momentum": Constant()}), ckpt=saver.paths[4])  # weights_only
    assert resumed.rates == whole.rates[5:]
    again = used_by(Remembers.load_from_checkpoint(saver.paths[4], weights_only=True, groups=None))
    assert again.first_rates == whole.first_rates


class Halves:
    def factor(self, step: int, horizon: Horizon) -> float:
        return 0.5


def test_a_schedule_that_no_path_leads_to_is_saved_as_it_is(tmp_path):
    saver = SaveAt(tmp_path)
    used_by(Remembers(Product([Constant(), Halves().factor])), saver)
    saved = torch.load(saver.paths[0], weights_only=False)["hyper_parameters"]["schedule"]
    assert saved(0, Horizon(1)) == 0.5


def test_a_stock_command_line_takes_the_callback_from_its_configuration(in_tmp):
    # In a process of its own, where nobody has told jsonargparse anything about this package.
    (in_tmp / "config.yaml").write_text(CONFIG)
    (in_tmp / "nested.yaml").write_text(NESTED)
    run_script(
        """
        from lightning.pytorch.cli import LightningCLI
        from lightning.pytorch.demos.boring_classes import BoringModel
        from lit_lrsched import Chain, Cosine, Horizon, Linear, Phase, Plateau, Product, Rex, WarmupCosine, table

        class Model(BoringModel):
            rates = []

            def on_train_batch_start(self, batch, batch_idx):
                self.rates.append(self.optimizers().param_groups[0]["lr"])

        cli = LightningCLI(Model, args=["fit", "--config", "config.yaml"], save_config_callback=None)
        assert Model.rates == [0.1 * factor for factor in table(WarmupCosine("5%"), Horizon(20))], Model.rates

        cli = LightningCLI(Model, args=["--config", "nested.yaml"], save_config_callback=None, run=False)
        (apply,) = [callback for callback in cli.trainer.callbacks if hasattr(callback, "schedule")]
        phases = [Phase(Linear(0.1, 1.0), "5st"), Phase(Product([Cosine(), Rex()]))]
        assert apply.schedule == Plateau(Chain(phases), monitor="val_acc", mode="max"), apply.schedule
        assert apply.groups == {"weight_decay": Linear(end=0.5)}, apply.groups
        assert apply.interval == "epoch"
        """,
        in_tmp,
    )


def test_a_project_that_imports_pytorch_lightning(in_tmp):
    (in_tmp / "config.yaml").write_text(CONFIG)
    run_script(
        """
        import sys

        import pytorch_lightning as pl
        from pytorch_lightning.cli import LightningCLI
        from pytorch_lightning.demos.boring_classes import BoringModel
        from pytorch_lightning.loggers import CSVLogger

        from lit_lrsched import ApplySchedule, Horizon, LearningRateLogger, Plateau, WarmupCosine, table
        from lit_lrsched import schedule_config

        schedule = WarmupCosine("25%")
        quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)


        class Model(BoringModel):
            def on_train_start(self):
                self.rates = []

            def on_train_batch_start(self, batch, batch_idx):
                self.rates.append(self.optimizers().param_groups[0]["lr"])


        class Scheduled(Model):
            def configure_optimizers(self):
                (optimizer,), _ = super().configure_optimizers()
                return schedule_config(optimizer, schedule, self.trainer)


        class Follows(Model):
            def validation_step(self, batch, batch_idx):
                self.log("val_loss", 1.0)


        def trainer(*callbacks, **options):
            options = {"max_epochs": 2, "logger": False, "limit_train_batches": 6, "limit_val_batches": 1, **options}
            return pl.Trainer(callbacks=list(callbacks), accelerator="cpu", **options, **quiet)


        expected = [0.1 * factor for factor in table(schedule, Horizon(12, 6))]
        apply, logger = ApplySchedule(schedule, replace=True), LearningRateLogger()
        assert isinstance(apply, pl.Callback) and isinstance(logger, pl.Callback)

        by_callback = Model()
        trainer(apply, logger, logger=CSVLogger(".", name="logs")).fit(by_callback)
        assert by_callback.rates == expected
        assert "lr/group0" in open("logs/version_0/metrics.csv").read()

        by_hand = Scheduled()
        trainer().fit(by_hand)
        assert by_hand.rates == expected

        follows = Follows()
        trainer(ApplySchedule(Plateau(patience=0, factor=0.5), replace=True), max_epochs=3).fit(follows)
        assert follows.rates == [0.1] * 12 + [0.05] * 6, follows.rates

        first = trainer(max_epochs=1)
        first.fit(Scheduled())
        first.save_checkpoint("after.ckpt")
        resumed = Scheduled()
        trainer().fit(resumed, ckpt_path="after.ckpt")
        assert resumed.rates == expected[6:], resumed.rates

        cli = LightningCLI(Model, args=["fit", "--config", "config.yaml"], save_config_callback=None)
        assert cli.model.rates == [0.1 * factor for factor in table(WarmupCosine("5%"), Horizon(20))]
        assert "lightning.pytorch" not in sys.modules
        """,
        in_tmp,
    )


def test_a_trainer_of_the_other_lightning_than_the_one_that_callbacks_are_of(in_tmp):
    said = run_script(
        """
        import sys

        from lit_lrsched import ApplySchedule  # which imports the other one

        import pytorch_lightning as pl
        from pytorch_lightning.callbacks import EarlyStopping, GradientAccumulationScheduler
        from pytorch_lightning.demos.boring_classes import BoringModel, ManualOptimBoringModel
        from pytorch_lightning.loggers import CSVLogger

        from lit_lrsched import Horizon, InputError, ScheduleReport, WarmupCosine, table

        schedule = WarmupCosine("25%")
        assert isinstance(ApplySchedule(schedule), sys.modules["lightning.pytorch"].Callback)


        class Model(BoringModel):
            def on_train_start(self):
                self.rates = []

            def on_before_optimizer_step(self, optimizer):
                self.rates.append(optimizer.param_groups[0]["lr"])


        class ByHand(ManualOptimBoringModel):
            def configure_optimizers(self):
                self.automatic_optimization = False
                optimizers, schedulers = super().configure_optimizers()
                return optimizers, schedulers * 2


        def fit(module, schedule, *callbacks, **options):
            options = {"logger": False, "limit_train_batches": 6, "limit_val_batches": 1, **options}
            quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
            callbacks = [ApplySchedule(schedule, replace=True), ScheduleReport(), *callbacks]
            pl.Trainer(max_epochs=2, callbacks=callbacks, accelerator="cpu", **options, **quiet).fit(module)


        module = Model()
        fit(module, schedule, GradientAccumulationScheduler({0: 1, 1: 2}), logger=CSVLogger(".", name="logs"))
        assert module.rates == [0.1 * factor for factor in table(schedule, Horizon(9))], module.rates
        assert "WarmupCosine" in open("logs/version_0/hparams.yaml").read()
        open("logs/version_0/schedule.csv").close()

        fit(ByHand(), schedule)

        for options in ({}, {"limit_val_batches": 0}):
            try:
                fit(Model(), schedule, EarlyStopping("val_f1"), **options)
            except InputError as error:
                print(error)
        """,
        in_tmp,
    )
    assert "calls its scheduler's step() itself" not in said
    assert "EarlyStopping follows 'val_f1', which Model does not log" in said
    assert "EarlyStopping follows 'val_f1', but limit_val_batches=0 turns validation off" in said

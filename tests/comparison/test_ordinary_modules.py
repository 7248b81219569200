"""Ordinary modules train together as ``Trainer.fit`` trains each alone; what cannot says why."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import math
import random
import re
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningDataModule, LightningModule, seed_everything
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import (
    BootStrapper,
    CatMetric,
    ClasswiseWrapper,
    MaxMetric,
    MeanMetric,
    MeanSquaredError,
    Metric,
    MinMaxMetric,
    MinMetric,
    MultioutputWrapper,
    SumMetric,
)
from torchmetrics.classification import MulticlassAccuracy, MulticlassRecall
from torchmetrics.wrappers import Running

from lit_lrsched import Constant, InputError, compare, find_lr
from lit_lrsched.comparison.engine import draws, vectorized
from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.counts import Count, Counts
from lit_lrsched.comparison.engine.held import MANY, contents
from lit_lrsched.comparison.engine.program import Program
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.comparison.engine.regime import Regime
from lit_lrsched.comparison.engine.training import Training
from lit_lrsched.schedules.plateau import Plateau
from tests.comparison.ordinary_modules import (
    CLASSES,
    LOSSES,
    TOGETHER,
    VAE,
    BatchNormMLP,
    Branching,
    Classifier,
    MomentumEncoder,
    Ordinary,
    Rows,
    WithLoss,
)
from tests.comparison.test_vectorized import alone, bits, race
from tests.comparison.whole_modules import WHOLE

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:.*litlogger.*"),
    pytest.mark.filterwarnings("ignore:Attribute 'net' is an instance of `nn.Module`:UserWarning"),  # templates do it
]

EPOCHS, STEPS = 2, 3
# Not Adam: where a gradient is zero in theory, as of a bias before BatchNorm, it makes whole steps of rounding.
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def seeded(entry: Ordinary) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        seed_everything(seed, verbose=False)
        return entry.make()

    return make


def assert_equals_fit(make: Callable[[int], Any], given: list[Training] | None = None, **options: Any) -> None:
    """Every run logs, and ends with, what ``Trainer.fit`` does."""
    given, options = given or trainings(), {"epochs": EPOCHS, "regime": Regime(), **options}
    together, regime = race(given, make, optimizer=SGD, **options), options["regime"]
    for run, training in enumerate(given):
        single = alone(training, make, SGD, options["epochs"], num_sanity_val_steps=0, **regime.options())
        logged = together[run].keys() - {"diverged", "rates"}
        if regime.accumulate == 1:  # otherwise there are more batches than steps
            np.testing.assert_array_equal(together[run]["rates"], single["rates"])
        # Frozen parameters are not among those that are returned.
        assert {key for key in single.keys() - logged if "." not in key} == {"rates"}
        for key in logged:
            np.testing.assert_allclose(together[run][key], single[key], rtol=1e-5, atol=1e-5, err_msg=key)


def trainings(rate: float = 0.05) -> list[Training]:
    rates = np.linspace(rate, rate / 4, EPOCHS * STEPS)
    return [Training(seed, rates * factor, name=str(factor)) for seed, factor in ((3, 1), (3, 2), (8, 1))]


@pytest.mark.parametrize("name", [*(name for name, entry in TOGETHER.items() if not entry.random), *WHOLE])
def test_every_run_equals_fit(name: str) -> None:
    assert_equals_fit(seeded((TOGETHER | WHOLE)[name]))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_that_torch_func_cannot_follow_as_they_stand(name: str) -> None:
    assert_equals_fit(seeded(Ordinary(partial(WithLoss, name), "table")))


def test_both_engines_know_what_a_step_asks_of_its_trainer(tmp_path: Path) -> None:
    options: dict[str, Any] = {"lrs": [0.05], "seeds": 2, "epochs": EPOCHS, "metric": "val_loss"}

    class Tested(WithLoss):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("test_loss", self.loss_of(self, *batch))

    one, other = (
        compare(
            partial(Tested, "by_the_trainer"),
            partial(Rows, "table"),
            {"constant": Constant()},
            engine=engine,
            folder=tmp_path / engine,
            **options,
        )
        for engine in ("vectorized", "sequential")
    )
    for together, alone_ in zip(one.results.records, other.results.records, strict=True):
        assert together.metrics == pytest.approx(alone_.metrics, abs=1e-5)


@pytest.mark.parametrize(
    "drawn",
    [lambda like: torch.empty(like.shape).normal_(), lambda like: torch.distributions.Normal(like, 1).rsample()],
)
def test_each_run_draws_for_itself_into_a_tensor_that_a_step_makes(drawn: Callable[[Tensor], Tensor]) -> None:
    class Noisy(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            logits = self(batch[0])
            self.log("noise", (drawn(logits) - logits).mean(), on_step=False, on_epoch=True)
            return F.cross_entropy(logits, batch[1])

    make = seeded(Ordinary(Noisy, "table"))
    found = race([dataclasses.replace(trainings()[0], name=str(run)) for run in range(3)], make, epochs=EPOCHS)
    assert len({float(value) for run in range(3) for value in found[run]["noise"]}) == 3 * EPOCHS


def test_each_run_draws_for_itself_in_a_step_and_the_hooks_around_it() -> None:
    def draw(self: Any, name: str) -> None:
        self.log(name, torch.rand(()), on_step=False, on_epoch=True)

    def step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        draw(self, "a")
        return F.cross_entropy(self(batch[0]), batch[1])

    def before(self: Any, optimizer: Any) -> None:
        draw(self, "b")

    def after(self: Any, *_: Any) -> None:
        draw(self, "c")

    hooks = {"training_step": step, "on_before_optimizer_step": before, "on_train_batch_end": after}
    make = seeded(Ordinary(type("Drawing", (Classifier,), hooks), "table"))
    runs = [dataclasses.replace(trainings()[0], name=name) for name in ("one", "other", "one")]
    found = race(runs, make, optimizer=SGD, epochs=EPOCHS)
    drawn = [[float(value) for name in "abc" for value in found[run][name]] for run in range(3)]
    assert drawn[0] == drawn[2]
    assert len({*drawn[0], *drawn[1]}) == 2 * 3 * EPOCHS


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (lambda module: module.trainer.callback_metrics, r"a step uses self\.trainer\.callback_metrics"),
        (lambda module: module.optimizers().step(), r"a step uses self\.optimizers\(\)\.step"),
        (lambda module: module.optimizers().param_groups[0]["momentum"], "uses the momentum of a param group"),
        (lambda module: module.manual_backward, r"a step uses self\.manual_backward"),
    ],
)
def test_what_else_a_step_asks_of_its_trainer_is_told(asked: Callable[[Any], Any], told: str) -> None:
    class Asking(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            asked(self)
            return F.cross_entropy(self(batch[0]), batch[1])

    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(Asking, "table")), epochs=EPOCHS)


class Calls(nn.Module):
    """Computes otherwise from its third call on."""

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self._calls += 1
        return x if self._calls < 3 else 2 * x


class Changing(Classifier):
    """Changes how it computes, in an epoch that is not the first."""

    def build(self) -> None:
        self.first = nn.Linear(8, 8).requires_grad_(False)
        self.norm, self.drop, self.mode = nn.BatchNorm1d(8), nn.Dropout(0.0), "early"
        self.net = nn.Sequential(self.first, self.norm, self.drop, nn.Linear(8, CLASSES))

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.change()

    def change(self) -> None:
        """Does it."""


def unfreeze(module: Any) -> None:
    module.first.requires_grad_(True)


def unfreeze_one(module: Any) -> None:
    module.first.weight.requires_grad = True


def fix_statistics(module: Any) -> None:
    module.norm.eval()


def drop(module: Any) -> None:
    module.drop.p = 0.5


def halve(module: Any) -> None:
    module.norm.register_forward_hook(lambda module, inputs, outputs: 0.5 * outputs)


def set_mode(module: Any) -> None:
    module.mode = "late"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (unfreeze, "it sets requires_grad while it trains"),
        (unfreeze_one, "it sets requires_grad while it trains"),
        (fix_statistics, r"on_train_epoch_start changes self\.norm\.training"),
        (drop, r"on_train_epoch_start changes self\.drop\.p"),
        (halve, r"on_train_epoch_start changes self\.norm \(its hooks\)"),
        (set_mode, r"on_train_epoch_start changes self\.mode"),
    ],
)
def test_a_module_that_changes_how_it_computes_is_told(change: Any, told: str) -> None:
    kind = type("Changing", (Changing,), {"change": change})
    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(kind, "table")), epochs=EPOCHS)
    race(trainings(), seeded(Ordinary(Changing, "table")), epochs=EPOCHS)


@pytest.mark.parametrize(
    "hook",
    [
        lambda weight: weight.register_hook(lambda gradient: 0.1 * gradient),
        lambda weight: weight.register_post_accumulate_grad_hook(lambda weight: None),
    ],
)
def test_a_hook_on_the_gradient_of_a_parameter_is_told(hook: Callable[[Tensor], Any]) -> None:
    class Hooked(Classifier):
        def build(self) -> None:
            super().build()
            hook(self.net[0].weight)

    with pytest.raises(NotVectorizable, match=r"net\.0\.weight has a hook on its gradient"):
        race(trainings(), seeded(Ordinary(Hooked, "table")), epochs=EPOCHS)


class Weighing(Classifier):
    """Weighs its loss by something that its steps change."""

    calls = 0
    losses: ClassVar[list[Tensor]] = []

    def build(self) -> None:
        super().build()
        self.array, self.of_numpy, self.of_python = np.zeros(2), np.random.default_rng(0), random.Random(0)
        self._count, self.total, self.flag, self.last, self.counts = 0, 0.0, True, None, Counter(a=1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        return loss * self.weight(loss)

    def weight(self, loss: Tensor) -> Any:
        return 1.0


def every_second(module: Any, loss: Tensor) -> float:
    module._count += 1
    return 1.0 if module._count % 2 else 2.0


def by_tensors(module: Any, loss: Tensor) -> Any:
    module.total = module.total + loss.detach()
    return module.total


def by_a_flag(module: Any, loss: Tensor) -> float:
    was, module.flag = module.flag, False
    return 2.0 if was else 1.0


def by_the_last(module: Any, loss: Tensor) -> float:
    module.last = loss.item()
    return 1.0


def by_an_array(module: Any, loss: Tensor) -> float:
    module.array[0] += 1
    return float(module.array[0])


def by_numpy(module: Any, loss: Tensor) -> float:
    return module.of_numpy.random()


def by_python(module: Any, loss: Tensor) -> float:
    return module.of_python.random()


def by_its_class(module: Any, loss: Tensor) -> float:
    type(module).calls += 1
    return float(module.calls)


def by_a_list_of_its_class(module: Any, loss: Tensor) -> float:
    module.losses.append(loss.detach())
    return 1.0


def by_new_keys(module: Any, loss: Tensor) -> float:
    module.counts[f"step {len(module.counts)}"] += 1
    return float(len(module.counts))


@pytest.mark.parametrize(
    ("weight", "told"),
    [
        (every_second, r"a step branches on self\._count, which it changes"),
        (by_tensors, r"self\.total is used after the batch for which it was set"),
        (by_a_flag, r"changes self\.flag"),
        (by_the_last, r"changes self\.last"),
        (by_new_keys, r"changes self\.counts"),
        (by_an_array, r"changes self\.array"),
        (by_numpy, r"changes self\.of_numpy"),
        (by_python, r"changes self\.of_python"),
        (by_its_class, r"changes Weighing\.calls"),
        (by_a_list_of_its_class, r"changes Weighing\.losses"),
    ],
)
def test_what_a_step_changes_and_is_no_number_of_each_run_is_told(weight: Any, told: str) -> None:
    kind = type("Weighing", (Weighing,), {"weight": weight})
    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(kind, "table")), epochs=EPOCHS)


@pytest.mark.parametrize(
    "iterator", [itertools.cycle([1.0, 2.0]), (1.0 for _ in range(9)), iter(DataLoader([1.0, 2.0]))]
)
def test_an_iterator_that_a_step_may_move_on_is_told(iterator: Any) -> None:
    class Moving(Classifier):
        def build(self) -> None:
            super().build()
            self.config = {"weights": iterator}

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1]) * next(self.config["weights"])

    with pytest.raises(NotVectorizable, match="it holds an iterator, which a step may move on unseen"):
        race(trainings(), seeded(Ordinary(Moving, "table")), epochs=EPOCHS)


def double_in_place(module: Any) -> None:
    module.factor.mul_(2)


def double_anew(module: Any) -> None:
    module.factor = 2 * module.factor


def double_unseen(module: Any) -> None:
    module.net[0].weight.data.mul_(2)


@pytest.mark.parametrize("change", [double_in_place, double_anew, double_unseen])
@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_validation_epoch_end", "on_train_epoch_end"])
def test_a_tensor_that_a_hook_changes_in_a_later_epoch(hook: str, change: Any) -> None:
    class Later(Classifier):
        def build(self) -> None:
            super().build()
            self.register_buffer("factor", torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.factor

    def changing(self: Any) -> None:
        if self.current_epoch == 1:
            change(self)

    setattr(Later, hook, changing)
    assert_equals_fit(seeded(Ordinary(Later, "table")), [Training(3, np.full(3 * STEPS, 0.05))], epochs=3)


def test_a_count_that_becomes_a_fraction_later() -> None:
    class Later(Weighing):
        def on_train_epoch_end(self) -> None:
            self._count += 1 if self.current_epoch == 0 else 0.5

        def weight(self, loss: Tensor) -> Any:
            return self._count + 1

    assert_equals_fit(seeded(Ordinary(Later, "table")))


def test_each_of_many_objects_is_looked_into() -> None:
    large = [SimpleNamespace(**dict.fromkeys(map(str, range(MANY + 1)))) for _ in range(9)]
    assert contents(large, set()) == [MANY + 1] * 9


def test_an_object_that_changes_before_every_call_and_not_in_it_is_no_reason_to_train_alone() -> None:
    class Configured(Classifier):
        def build(self) -> None:
            super().build()
            self.config = SimpleNamespace(rate=0.5, nested={"of": [self, torch.ones(2), print, Counter]})
            self.config.itself = self.config
            self.many = list(range(10_000))

    race(trainings(), seeded(Ordinary(Configured, "table")), epochs=EPOCHS)


class Average:
    """Weights averaged over training, outside of buffers."""

    def __init__(self, weights: Any) -> None:
        self.weights = [weight.detach().clone() for weight in weights]

    def update(self, weights: Any) -> None:
        for mean, weight in zip(self.weights, weights, strict=True):
            mean.mul_(0.9).add_(weight.detach(), alpha=0.1)


class Averaging(Classifier):
    def build(self) -> None:
        super().build()
        self.average = Average([torch.zeros(CLASSES)])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]) + self.average.weights[0], batch[1])


def test_an_object_with_tensors_that_a_hook_changes_is_told() -> None:
    class Updating(Averaging):
        def on_train_epoch_end(self) -> None:
            self.average.update([self.net[2].bias])

    with pytest.raises(NotVectorizable, match=r"changes self\.average"):
        race(trainings(), seeded(Ordinary(Updating, "table")), epochs=EPOCHS)
    race(trainings(), seeded(Ordinary(Averaging, "table")), epochs=EPOCHS)


def test_an_object_with_tensors_of_its_seed_is_told() -> None:
    class Drawing(Averaging):
        def build(self) -> None:
            super().build()
            self.average.update([torch.rand(CLASSES)])

    with pytest.raises(NotVectorizable, match=r"all runs would share self\.average, and seed \d has another"):
        race(trainings(), seeded(Ordinary(Drawing, "table")), epochs=EPOCHS)


class Taught(Classifier):
    """Learns from a layer that a list keeps from being one of its own."""

    def build(self) -> None:
        super().build()
        self.teacher = [nn.Linear(8, CLASSES).requires_grad_(False), self]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.kl_div(self(batch[0]).log_softmax(1), self.teacher[0](batch[0]).softmax(1), reduction="batchmean")


def test_a_layer_outside_of_the_module_is_each_seeds_own() -> None:
    class Same(Taught):
        def build(self) -> None:
            super().build()
            nn.init.ones_(self.teacher[0].weight)
            nn.init.zeros_(self.teacher[0].bias)

    with pytest.raises(NotVectorizable, match=r"all runs would share self\.teacher, and seed \d has another"):
        race(trainings(), seeded(Ordinary(Taught, "table")), epochs=EPOCHS)
    race(trainings(), seeded(Ordinary(Same, "table")), epochs=EPOCHS)


def test_a_metric_outside_of_the_module_is_told() -> None:
    class Aside(Classifier):
        def build(self) -> None:
            super().build()
            self.metrics = {"loss": MeanMetric()}

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.metrics["loss"].update(F.cross_entropy(self(batch[0]), batch[1]))

        def on_validation_epoch_end(self) -> None:
            self.log("val_loss", self.metrics["loss"].compute())
            self.metrics["loss"].reset()

    with pytest.raises(NotVectorizable, match=r"changes self\.metrics"):
        race(trainings(), seeded(Ordinary(Aside, "table")), epochs=EPOCHS)


class Measured(Classifier):
    """Logs a metric that is made of others."""

    def __init__(self, make: Callable[[], Any]) -> None:
        super().__init__()
        self.metric = make()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.metric.update(self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        found = self.metric.compute()
        self.log_dict(found if isinstance(found, dict) else {"val_found": found})
        self.metric.reset()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClasswiseWrapper(MulticlassAccuracy(CLASSES, average=None)),
        lambda: MulticlassAccuracy(CLASSES) + MulticlassRecall(CLASSES),
    ],
)
def test_metrics_that_are_made_of_others_equal_those_of_fit(make: Callable[[], Any]) -> None:
    assert_equals_fit(seeded(Ordinary(partial(Measured, make), "table")), trainings()[:1])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Encountered `nan` values in tensor:UserWarning")
@pytest.mark.parametrize("strategy", ["warn", 0.5, "disable"])
@pytest.mark.parametrize("kind", [MeanMetric, SumMetric, MaxMetric, MinMetric, CatMetric])
def test_aggregators_treat_nan_as_they_do_in_fit(kind: type[Metric], strategy: Any) -> None:
    class OfLogarithms(Measured):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.metric.update(self(batch[0]).log())

        def on_validation_epoch_end(self) -> None:
            self.log("val_found", self.metric.compute().mean())
            self.metric.reset()

    assert_equals_fit(seeded(Ordinary(lambda: OfLogarithms(partial(kind, nan_strategy=strategy)), "table")))


class MeasuredInTraining(Classifier):
    """Validates between the last update of a metric and its value."""

    def __init__(self) -> None:
        super().__init__()
        self.metric = MultioutputWrapper(MeanSquaredError(), CLASSES)  # which looks for nan in its arguments

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self(batch[0])
        self.metric.update(logits.detach(), F.one_hot(batch[1], CLASSES).float())
        return F.cross_entropy(logits, batch[1])

    def on_train_epoch_end(self) -> None:
        self.log_dict({f"train_{i}": value for i, value in enumerate(self.metric.compute())})
        self.metric.reset()


def test_a_metric_of_training_that_branches_outlasts_validation() -> None:
    assert_equals_fit(seeded(Ordinary(MeasuredInTraining, "table")))


class Summed(Metric):
    """Keeps its sum in an attribute that is no state."""

    def __init__(self) -> None:
        super().__init__()
        self.total = torch.zeros(())

    def update(self, logits: Tensor, y: Tensor) -> None:
        self.total = self.total + logits.sum()

    def compute(self) -> Tensor:
        return self.total


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Summed, r"changes self\.metric\.total"),
        (lambda: MinMaxMetric(MulticlassAccuracy(CLASSES)), "changes .*max_val"),
        (lambda: Running(MulticlassAccuracy(CLASSES), window=3), r"changes self\.metric\._num_vals_seen"),
        (lambda: BootStrapper(MulticlassAccuracy(CLASSES)), "BootStrapper 'metric' draws random numbers"),
    ],
)
def test_a_metric_that_is_more_than_its_states_is_told(make: Callable[[], Any], told: str) -> None:
    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(partial(Measured, make), "table")), epochs=EPOCHS)  # type: ignore[arg-type]


@pytest.mark.parametrize("hook", ["on_train_end", "on_fit_end", "teardown"])
def test_what_happens_between_training_and_test_counts(hook: str, capsys: pytest.CaptureFixture[str]) -> None:
    def end(self: Any, stage: str = "fit") -> None:
        if stage != "fit":
            return
        print(f"ended at {self.current_epoch}, {self.global_step}")
        self.net[0].weight.data.zero_()

    make = seeded(Ordinary(type("Ending", (Classifier,), {hook: end}), "table"))
    together = race(trainings(), make, epochs=EPOCHS)
    assert capsys.readouterr().out == f"ended at {EPOCHS}, {EPOCHS * STEPS}\n"  # not once more from finding out
    for run, training in enumerate(trainings()):
        assert together[run]["test_acc"] == pytest.approx(alone(training, make, SGD, EPOCHS)["test_acc"])
    race(trainings(), make, epochs=EPOCHS, regime=Regime(limit_test=0))
    assert capsys.readouterr().out.count("ended") == len(trainings())  # where nothing follows, nobody asks


def shared(module: Any, batch: Any, batch_idx: int) -> Tensor:
    module.teacher[0].weight.data = module.net[0].weight.data
    return F.cross_entropy(module(batch[0]), batch[1])


def shrink(module: Any, *_: Any) -> None:
    for parameter in module.net.parameters():
        parameter.data -= 0.1 * parameter.data


def test_data_that_is_changed_in_place_is_set_to_itself() -> None:
    assert_equals_fit(seeded(Ordinary(type("Shrinking", (Classifier,), {"on_train_batch_end": shrink}), "table")))


def swap(module: Any) -> None:
    for quick, slow in zip(module.net.parameters(), module.teacher.parameters(), strict=True):
        quick.data, slow.data = slow.data, quick.data


@pytest.mark.parametrize("accumulate", [2, 3])
@pytest.mark.parametrize("name", ["Averaged", "Gathered", "GradientNorms"])
def test_hooks_around_batches_whose_gradients_add_up(accumulate: int, name: str) -> None:
    kind = type("Late", (TOGETHER[name].module,), {"on_after_backward": Classifier.on_after_backward})
    make, steps = seeded(Ordinary(kind, "table")), EPOCHS * math.ceil(STEPS / accumulate)
    rates = np.linspace(0.05, 0.01, steps)
    regime = Regime(accumulate=accumulate, clip=Clip(0.05, "norm"))
    assert_equals_fit(make, [Training(3, rates), Training(8, rates)], regime=regime)


@pytest.mark.parametrize(
    ("hooks", "told"),
    [
        ({"on_after_backward": lambda self: None}, "it overrides on_after_backward, and gradients add up over batches"),
        ({"on_before_zero_grad": lambda self, _: None}, "it overrides on_before_zero_grad, and gradients add up over"),
        ({"optimizer_zero_grad": lambda self, *_: None}, "optimizer_zero_grad does not call the optimizer's zero_grad"),
        ({"on_train_batch_end": lambda self, *_: self.net[0].weight.grad}, "it looks at gradients outside of"),
        ({"on_train_epoch_end": lambda self: self.net[0].weight.grad}, "it looks at gradients outside of"),
        ({"on_before_zero_grad": lambda self, _: self.net[0].weight.grad}, "it looks at gradients outside of"),
        ({"on_before_optimizer_step": lambda self, _: setattr(self.net[0].weight, "grad", None)}, "takes the gradient"),
        ({"on_train_epoch_end": lambda self: torch.rand(1)}, "it draws random numbers in on_train_epoch_end"),
        (
            {"on_train_epoch_end": lambda self: self.optimizers()},
            "a learning rate is looked at outside of training_step",
        ),
        ({"on_train_end": lambda self: self.log("a", 1.0)}, "it logs in on_train_end"),
        ({"on_train_batch_end": lambda self, *_: self.log("train_loss_step", 1.0)}, "logged by a step and by"),
        ({"training_step": shared}, "a step lets two of its tensors share their memory"),
        (
            {"on_validation_start": swap, "on_validation_end": swap},
            "sets the data of a tensor anew, and keeps what it was",
        ),
    ],
)
def test_what_hooks_around_batches_may_not_do_is_told(hooks: dict[str, Any], told: str) -> None:
    kind = type("Around", (MomentumEncoder,), hooks)
    regime = Regime(accumulate=2 if "gradients add up" in told else 1)
    rates = np.full(EPOCHS * math.ceil(STEPS / regime.accumulate), 0.05)
    with pytest.raises(NotVectorizable, match=told):
        race([Training(3, rates)], seeded(Ordinary(kind, "table")), epochs=EPOCHS, regime=regime)


@pytest.mark.parametrize("clip", [Clip(0.05), Clip(0.01, "value")])
def test_a_hook_takes_the_place_of_the_trainers_clipping(clip: Clip) -> None:
    class Passing(Classifier):
        """Clips as its trainer is asked to, or not at all."""

        def configure_gradient_clipping(
            self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any
        ) -> None:
            if self.current_epoch:
                self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    assert_equals_fit(seeded(Ordinary(Passing, "table")), regime=Regime(clip=clip))


def test_a_module_and_a_trainer_that_clip_otherwise_are_told() -> None:
    class Clipping(Classifier):
        def configure_gradient_clipping(self, optimizer: Any, *_: Any) -> None:
            self.clip_gradients(optimizer, gradient_clip_val=0.1)

    with pytest.raises(NotVectorizable, match=r"it clips gradients by 0\.1, and its trainer by 0\.05"):
        race(trainings(), seeded(Ordinary(Clipping, "table")), epochs=EPOCHS, regime=Regime(clip=Clip(0.05)))


def test_gradients_that_no_optimizer_trains_and_a_hook_may_see_are_told() -> None:
    kind = type("Seeing", (Classifier,), {"on_before_optimizer_step": lambda self, _: None})
    first_layer = lambda parameters: torch.optim.SGD([*parameters][:2], lr=0.05)  # noqa: E731
    with pytest.raises(NotVectorizable, match=r"may see the gradient of net\.2\.bias, which no optimizer trains"):
        race(trainings(), seeded(Ordinary(kind, "table")), optimizer=first_layer, epochs=EPOCHS)
    race(trainings(), seeded(Ordinary(Classifier, "table")), optimizer=first_layer, epochs=EPOCHS)


def test_steps_that_end_within_an_epoch_are_counted_up_to_there() -> None:
    class Counting(Classifier):
        def on_validation_epoch_end(self) -> None:
            self.log("taken", float(self.global_step))

    training = Training(3, np.full(EPOCHS * STEPS - 1, 0.05))
    found = race([training], seeded(Ordinary(Counting, "table")), epochs=EPOCHS, steps=EPOCHS * STEPS - 1)
    assert [*found[0]["taken"]] == [STEPS, EPOCHS * STEPS - 1]


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_setup_for_the_test_that_sets_numbers_back_is_told(is_kept: bool) -> None:
    class SetBack(MomentumEncoder):
        def build(self) -> None:
            super().build()
            self.register_buffer("scale", torch.ones(()), persistent=False)

        def setup(self, stage: str) -> None:
            if not is_kept:
                self.scale.fill_(2.0 if stage == "test" else 1.0)
            else:  # which changes no number before training
                self.teacher.load_state_dict(self.net.state_dict())

    with pytest.raises(NotVectorizable, match="its setup for the test changes it"):
        race(trainings(), seeded(Ordinary(SetBack, "table")), epochs=EPOCHS)


def test_a_buffer_that_training_changes_and_the_setup_for_the_test_makes_anew_is_told() -> None:
    class Centered(Classifier):
        def setup(self, stage: str) -> None:
            self.register_buffer("center", torch.zeros(CLASSES))
            self.register_buffer("scale", torch.ones(CLASSES))  # which training only reads

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.scale - self.center

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            with torch.no_grad():
                self.center.lerp_(self(batch[0]).mean(0), 0.1)
            return super().training_step(batch, batch_idx)

    make = seeded(Ordinary(Centered, "table"))
    with pytest.raises(NotVectorizable, match=r"test makes self\.center anew, which training changes"):
        race(trainings(), make, epochs=EPOCHS)
    race(trainings(), make, epochs=EPOCHS, regime=Regime(limit_test=0))


@pytest.mark.parametrize(("kind", "epochs"), [(MeanMetric, EPOCHS), (CatMetric, 1)])  # lists may not grow for longer
def test_a_metric_that_the_setup_for_the_test_makes_anew_begins_anew(kind: type[Metric], epochs: int) -> None:
    class SetUp(Classifier):
        def setup(self, stage: str) -> None:
            self.seen = kind()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.seen.update(loss.detach())
            return loss

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.seen.update(batch[0].mean())

        def on_test_epoch_end(self) -> None:
            self.log("test_seen", self.seen.compute().sum())

    assert_equals_fit(seeded(Ordinary(SetUp, "table")), [Training(0, np.full(epochs * STEPS, 0.05))], epochs=epochs)


class NamedRows(Rows):
    """Rows with names, as of files."""

    def train_dataloader(self) -> Any:
        return self._named(self.parts[0], shuffle=True)

    def val_dataloader(self) -> Any:
        return self._named(self.parts[1])

    def test_dataloader(self) -> Any:
        return self._named(self.parts[2])

    def _named(self, part: Any, **options: Any) -> Any:
        rows = [{"of": {"name": f"{i}.png", "x": x}, "y": (y, "label")} for i, (x, y) in enumerate(part)]
        return DataLoader(rows, self.batch_size, **options)


class OfNamedRows(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step((batch["of"]["x"], batch["y"][0]), batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step((batch["of"]["x"], batch["y"][0]), batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        super().test_step((batch["of"]["x"], batch["y"][0]), batch_idx)


@pytest.mark.filterwarnings("ignore:Trying to infer the `batch_size`:UserWarning")
def test_text_in_a_batch_is_no_reason_to_train_alone() -> None:
    assert_equals_fit(seeded(Ordinary(OfNamedRows, "table", data=NamedRows)))


class WithMetric(Classifier):
    """Validates by a metric, which it logs as an object."""

    def build(self) -> None:
        super().build()
        self.acc = MulticlassAccuracy(CLASSES)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.acc(self(batch[0]), batch[1])
        self.log("val_acc", self.acc)


class LoggedAtTheEnd(WithMetric):
    """Logs it in a hook."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.acc.update(self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        self.log("val_acc", self.acc)


class Prefixed(Classifier):
    """Has a way to log, and to count epochs, of its own."""

    @property
    def current_epoch(self) -> int:
        return super().current_epoch + 1

    def log(self, name: str, *args: Any, **kwargs: Any) -> None:
        super().log(f"own_{name}", *args, **kwargs)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("epoch", self.current_epoch)
        return super().training_step(batch, batch_idx)


class Halving(Classifier):
    """Weighs its loss by a power that is a whole number in the first epoch alone."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1]) * 2**-self.current_epoch


class WhereGradients(Classifier):
    """Asks whether it has gradients."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("in_step", float(torch.is_grad_enabled()))

    def on_validation_epoch_end(self) -> None:
        self.log("in_hook", float(torch.is_grad_enabled()))


class NamedInDicts(NamedRows):
    def _named(self, part: Any, **options: Any) -> Any:
        rows = [{"x": x, "y": y} for x, y in part]
        return DataLoader(rows, batch_size=16, **options)


class TakingApart(Classifier):
    """Takes the targets out of its batches."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        y = batch.pop("y")
        loss = F.cross_entropy(self(**batch), y)
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        y, x = batch.pop("y"), batch.pop("x")
        self.log("val_loss", F.cross_entropy(self(x), y), batch_size=len(y))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)


class WithShortBatches(Classifier):
    """Logs, counts and adds up in the batches alone that have fewer rows."""

    def build(self) -> None:
        super().build()
        self.short = 0
        self.register_buffer("mean", torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        if len(batch[0]) < 16:
            self.short += 1
            self.mean += batch[0].mean()
            self.log("short_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log_dict({"val_loss": F.cross_entropy(self(batch[0]) * self.mean, batch[1]), "short": self.short})


class EmptyingLists(Classifier):
    """Empties lists of outputs in steps and in the hook after one."""

    def build(self) -> None:
        super().build()
        self.losses: list[Tensor] = []
        self.highest: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        logits = self(batch[0])
        if batch_idx == 0:
            self.losses.clear()
        elif batch_idx == 1:
            self.highest = []
        self.losses.append(logits.mean())
        self.highest.append(logits.max())
        return F.cross_entropy(logits, batch[1])

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            self.losses.clear()

    def on_train_epoch_end(self) -> None:
        self.log_dict({"loss": torch.stack(self.losses).sum(), "highest": torch.stack(self.highest).sum()})
        self.losses, self.highest = [], []


class OfNumbers(Classifier):
    """Asks whether its numbers are numbers."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        are_whole = all(isinstance(one, int) for one in (batch_idx, self.current_epoch, batch[1].max().item()))
        return loss * (1 + are_whole) * (1 + isinstance(batch_idx / 2, float)) * (1 + isinstance(loss.item(), float))


class DroppedInPlace(Classifier):
    """Uses what it drops in place."""

    def forward(self, x: Tensor) -> Tensor:
        hidden, scale = self.net[0](x), torch.ones(10)
        for dropped in (hidden, scale):
            F.dropout(dropped, 1.0, inplace=True)
        return self.net[2](hidden * scale)


class LoggedByStep(Classifier):
    """Logs metrics by step alone, which Lightning resets all the same, and what they have seen of an epoch."""

    def build(self) -> None:
        super().build()
        self.of_training, self.of_validation = SumMetric(), SumMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.of_training(batch[0].mean())
        self.log("train_mean", self.of_training, on_step=True, on_epoch=False)
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.of_validation(batch[0].mean())
        self.log("val_mean", self.of_validation, on_step=True, on_epoch=False)

    def on_validation_epoch_end(self) -> None:
        self.log("val_sum", self.of_validation.compute())

    def on_train_epoch_end(self) -> None:
        self.log("train_sum", self.of_training.compute())


class Weightless(Classifier):
    """Logs its first batch with no weight."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=0 if batch_idx == 0 else len(batch[0]))
        return loss


def log_norm(module: Any, *_: Any) -> None:
    module.log("norm", nn.utils.parameters_to_vector(module.parameters()).norm())


def reset(module: Any) -> None:
    module.acc.reset()


@pytest.mark.parametrize(
    "entry",
    [
        Ordinary(type("Reset", (WithMetric,), {"on_validation_epoch_end": reset}), "table"),
        Ordinary(type("Reset", (WithMetric,), {"on_validation_end": reset}), "table"),
        Ordinary(type("Reset", (LoggedAtTheEnd,), {"on_validation_end": reset}), "table"),
        Ordinary(Prefixed, "table"),
        Ordinary(Halving, "table"),
        Ordinary(WhereGradients, "table"),
        Ordinary(TakingApart, "table", data=NamedInDicts),
        Ordinary(WithShortBatches, "table"),
        Ordinary(EmptyingLists, "table"),
        Ordinary(OfNumbers, "table"),
        Ordinary(DroppedInPlace, "table"),
        Ordinary(LoggedByStep, "table"),
        Ordinary(Weightless, "table"),
        *(
            Ordinary(type("Viewing", (Classifier,), {hook: log_norm}), "table")
            for hook in ("on_train_batch_end", "on_train_epoch_start", "on_validation_epoch_end")
        ),
    ],
)
def test_what_modules_do_in_ways_of_their_own_equals_fit(entry: Ordinary) -> None:
    assert_equals_fit(seeded(entry))


def seeds_itself(module: Any, batch: Any, batch_idx: int) -> None:
    torch.manual_seed(5)
    module.log("noise", torch.rand(()))


def seeds_in_a_fork(module: Any, batch: Any, batch_idx: int) -> None:
    with torch.random.fork_rng():
        seeds_itself(module, batch, batch_idx)


def appends_twice(module: Any, batch: Any, batch_idx: int) -> None:
    module.means.append(batch[0].mean())
    module.by_name["means"].append(batch[0].mean())


def computes(module: Any, batch: Any, batch_idx: int) -> None:
    module.all_of_it.update(batch[0].mean())
    module.log("so_far", module.all_of_it.compute().mean())


def resets(module: Any, batch: Any, batch_idx: int) -> None:
    if batch_idx == 1:
        module.all_of_it.reset()
    module.all_of_it.update(batch[0].mean())


def grows(module: Any, batch: Any, batch_idx: int) -> None:
    module.bank = torch.cat([module.bank, batch[0]])


def changes_its_batch(module: Any, batch: Any, batch_idx: int) -> None:
    batch[0] = 2 * batch[0]


def logs_by_step_now_and_then(module: Any, batch: Any, batch_idx: int) -> None:
    module.of_it.update(batch[0].mean())
    if module.current_epoch == 1:
        module.log("of_it", module.of_it, on_step=True, on_epoch=False)


def logs_now_and_then(module: Any, batch: Any, batch_idx: int) -> None:
    module.of_it.update(batch[0].mean())
    if module.current_epoch == 0:
        module.log("of_it", module.of_it, on_step=False, on_epoch=True)


class Doing(Classifier):
    def build(self) -> None:
        super().build()
        self.means: list[Tensor] = []
        self.by_name = {"means": self.means}
        self.all_of_it, self.of_it = CatMetric(), MeanMetric()
        self.register_buffer("bank", torch.zeros(0, 8))

    def on_train_epoch_end(self) -> None:
        self.means.clear()
        self.all_of_it.reset()


def look(module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
    module.log("mean", batch[0].mean(), on_step=False, on_epoch=True)


@pytest.mark.parametrize(
    ("before", "told"),
    [
        (seeds_itself, "a step seeds the generator that it draws from"),
        (seeds_in_a_fork, "a step seeds the generator that it draws from"),
        (appends_twice, r"a step appends to self\.by_name\['means'\], which has another name too"),
        (computes, "a step computes or resets the metric CatMetric 'all_of_it', which keeps"),
        (resets, "a step computes or resets the metric CatMetric 'all_of_it', which keeps"),
        (grows, r"training_step changes the shape of self\.bank"),
        (changes_its_batch, "a step sets parts of its batch anew, and on_train_batch_end may look at them"),
        (logs_now_and_then, "'of_it' is a metric that is logged in some epochs alone"),
        (logs_by_step_now_and_then, "the metric MeanMetric is logged in some epochs alone"),
    ],
)
def test_what_a_step_does_that_no_program_can_repeat_is_told(before: Any, told: str) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        before(self, batch, batch_idx)
        return Classifier.training_step(self, batch, batch_idx)

    kind = type("Doing", (Doing,), {"training_step": step, "on_train_batch_end": look})
    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(kind, "table")), epochs=EPOCHS)


class ByClass(Rows):
    """Rows by their class: the first batch has none of the last one."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for part in self.parts if stage == "fit" else []:
            part.tensors[1].copy_(part.tensors[1].sort()[0])

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts[0], batch_size=8)


def counts_classes(module: Any, batch: Any, batch_idx: int) -> Tensor:
    module.log("most", torch.bincount(batch[1], minlength=CLASSES - 1).max())
    return Classifier.training_step(module, batch, batch_idx)


def encodes_classes(module: Any, batch: Any, batch_idx: int) -> Tensor:
    return F.mse_loss(module(batch[0])[:, :-1], F.one_hot(batch[1], CLASSES - 1).float())


def count_when_it_ends(module: Any) -> None:
    module.log("most", torch.bincount(torch.cat(module.seen), minlength=CLASSES - 1).max())
    module.seen = []


class Seeing(Classifier):
    def build(self) -> None:
        super().build()
        self.seen: list[Tensor] = []

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch[1])

    def on_validation_epoch_end(self) -> None:
        self.seen = []


@pytest.mark.parametrize(
    "members",
    [
        {"training_step": counts_classes},
        {"training_step": encodes_classes},
        {"on_validation_epoch_end": count_when_it_ends},
    ],
)
def test_classes_beyond_those_that_a_step_has_places_for_are_told(members: dict[str, Any]) -> None:
    make = seeded(Ordinary(type("Placing", (Seeing,), members), "table", data=ByClass))
    training = Training(3, np.full(EPOCHS * 6, 0.05))
    with pytest.raises(NotVectorizable, match=r"counts \(bincount\) or encodes \(one_hot\) numbers that are not below"):
        race([training], make, optimizer=SGD, epochs=EPOCHS, workers=1)


class WithAnotherHead(Classifier):
    """Trains its second head with the batches alone that are full, or short."""

    def __init__(self, of_full: bool) -> None:
        super().__init__()
        self.other = nn.Linear(8, CLASSES)
        self.of_full = of_full

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        return loss + F.cross_entropy(self.other(x), y) if (len(x) == 16) == self.of_full else loss


@pytest.mark.parametrize("of_full", [True, False])
def test_a_layer_that_batches_of_some_sizes_leave_without_a_gradient_is_told(of_full: bool) -> None:
    # Where it has none, an optimizer leaves it as it is, momentum and weight decay included.
    with pytest.raises(NotVectorizable, match="which parameters have a gradient depends on the batch or the epoch"):
        race(trainings(), seeded(Ordinary(partial(WithAnotherHead, of_full), "table")), epochs=EPOCHS)


def test_a_hook_that_only_a_single_run_can_call_ends_the_program_in_a_line() -> None:
    def end(self: Any) -> None:
        weights = [*self.parameters()]
        slopes = torch.autograd.grad(sum(weight.square().sum() for weight in weights), weights)
        self.log("slope", sum(slope.sum() for slope in slopes))

    kind = type("Sloping", (Classifier,), {"on_train_epoch_end": end})
    with pytest.raises(NotVectorizable, match=r"a hook or a metric would stop all runs \(RuntimeError: "):
        race(trainings(), seeded(Ordinary(kind, "table")), epochs=EPOCHS, workers=1)


@pytest.mark.parametrize("look", [len, list, str, bool, lambda names: names[0], lambda names: names == ["0.png"]])
def test_a_step_that_looks_at_text_is_told(look: Callable[[Any], Any]) -> None:
    class Looking(OfNamedRows):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            look(batch["of"]["name"])
            return super().training_step(batch, batch_idx)

    with pytest.raises(NotVectorizable, match="a step looks at the text in a batch"):
        race(trainings(), seeded(Ordinary(Looking, "table", data=NamedRows)), epochs=EPOCHS)


class Scaled(nn.Module):
    """Is scaled by its first batch, or by who sets the factor."""

    def __init__(self, by_batch: bool) -> None:
        super().__init__()
        self.is_ready, self.factor = not by_batch, 1.0
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_ready:
            self.scale.data.copy_(1 / x.detach().std())
            self.is_ready = True
        return x * self.scale * self.factor


class Noting(nn.Module):
    """Divides by the deviation of its first batch."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "deviation"):
            self.deviation = x.std().item()
        return x / self.deviation


class FromItsFirst(nn.Module):
    """Computes with what it keeps of its first batch, of numbers in it or not."""

    kept: Any = None

    def __init__(self, keep: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.keep = keep
        self.scale = nn.Parameter(torch.ones(CLASSES))
        self.register_buffer("drawn", torch.rand(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.keep(self, x)
        self.last = x.detach()
        return x * self.scale * (0.5 + self.kept)


def scaled_by_it(layer: Any, x: Tensor) -> bool:
    layer.scale.data.copy_(1 / x.detach().std(0))
    return True


@pytest.mark.parametrize(
    ("keep", "is_told"),
    [
        (lambda layer, x: x.detach().mean(0), True),
        (lambda layer, x: float(x.mean()), True),
        (lambda layer, x: torch.from_numpy(x.detach().numpy().mean(0)), True),
        (lambda layer, x: layer.scale.detach().clone(), True),
        (lambda layer, x: layer.drawn.exp(), True),
        (lambda layer, x: torch.rand(CLASSES), True),
        (scaled_by_it, True),
        (lambda layer, x: torch.ones_like(x[0]).cumsum(0), False),
        (lambda layer, x: x.shape[1], False),
    ],
)
def test_what_a_layer_computes_from_its_first_batch_and_keeps_is_told(keep: Any, is_told: bool) -> None:
    class First(Classifier):
        def build(self) -> None:
            self.net = nn.Sequential(nn.Linear(8, CLASSES), FromItsFirst(keep))

    make = seeded(Ordinary(First, "table"))
    torch.manual_seed(0)
    if is_told:
        with pytest.raises(NotVectorizable, match=r"keep self\.net\.1\.kept, .* and training_step computes with it"):
            race(trainings(), make, epochs=EPOCHS)
    else:
        assert_equals_fit(make)


def test_what_a_layer_keeps_of_its_first_validation_is_told() -> None:
    class First(Classifier):
        def build(self) -> None:
            super().build()
            self.check = FromItsFirst(lambda layer, x: x.detach().mean(0))

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", F.cross_entropy(self.check(self(batch[0])), batch[1]))

    with pytest.raises(NotVectorizable, match="and validation_step computes with it"):
        race(trainings(), seeded(Ordinary(First, "table")), epochs=EPOCHS)


def by_the_last_batch(module: Any, mean: Tensor) -> Any:
    return 1.0 if module.kept is None else module.kept


def by_being_the_first(module: Any, mean: Tensor) -> Any:
    return 2.0 if module.kept is None else 1.0


def by_a_batch_of_a_later_epoch(module: Any, mean: Tensor) -> Any:
    return module.kept if module.current_epoch else 1.0


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"weight": by_the_last_batch}, r"self\.kept is used after the batch for which it was set"),
        ({"weight": by_being_the_first}, r"steps and layers keep self\.kept .* and training_step computes with it"),
        ({"weight": by_a_batch_of_a_later_epoch}, r"self\.kept is used after the batch for which it was set"),
        ({"on_train_epoch_end": lambda self: self.log("kept", self.kept)}, r"self\.kept is used after the batch"),
        ({"on_validation_start": lambda self: self.log("kept", torch.exp(self.kept))}, r"self\.kept is used after"),
        ({"on_train_epoch_end": lambda self: setattr(self, "kept", None)}, None),
    ],
)
def test_a_tensor_that_is_kept_longer_than_a_batch_is_told(members: dict[str, Any], told: str | None) -> None:
    class Keeping(Classifier):
        def build(self) -> None:
            super().build()
            self.kept: Any = None

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            mean = batch[0].mean()
            loss = super().training_step(batch, batch_idx) * self.weight(mean)
            self.kept = mean
            return loss

        def weight(self, mean: Tensor) -> Any:
            return 1.0

    make = seeded(Ordinary(type("Kept", (Keeping,), members), "table"))
    with pytest.raises(NotVectorizable, match=told) if told else nullcontext():
        race(trainings(), make, epochs=EPOCHS)


class Strict(nn.Module):
    """Takes weights up to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.width = x.shape[1]
        if self.scale > 1:
            raise ValueError("above 1")
        return x * self.scale


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (Calls, r"training_step changes self\.net\.1\._calls"),
        (Noting, r"training_step changes self\.net\.1\.deviation"),
        (Strict, r"training_step computes with it cannot be told \(ValueError: above 1\)"),
        (partial(nn.LazyLinear, CLASSES), r"net\.1\.weight is made by the first batch"),
    ],
)
def test_a_layer_that_later_batches_find_otherwise_is_told(make: Callable[[], nn.Module], told: str) -> None:
    class Built(Classifier):
        def build(self) -> None:
            self.net = nn.Sequential(nn.Linear(8, CLASSES), make())

    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(Built, "table")), epochs=EPOCHS)


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_epoch_start", "on_validation_start"])
def test_a_tensor_of_a_layer_that_a_hook_sets_is_told(hook: str) -> None:
    class Set(Classifier):
        def build(self) -> None:
            self.net = nn.Sequential(nn.Linear(8, CLASSES), Scaled(by_batch=False))

    def set_factor(self: Any) -> None:
        self.net[1].factor = self.net[0].weight.detach().std()

    setattr(Set, hook, set_factor)
    with pytest.raises(NotVectorizable, match=rf"{hook} changes self\.net\.1\.factor"):
        race(trainings(), seeded(Ordinary(Set, "table")), epochs=EPOCHS)


def amplify(module: Any, *_: Any) -> None:
    module.net[1].factor = 2.0


def exchange(module: Any) -> None:
    module.net, module.other = module.other, module.net


@pytest.mark.parametrize(
    ("hooks", "told"),
    [
        ({}, r"training_step changes self\.net\.1\.is_ready"),
        *(({hook: amplify}, rf"{hook} changes self\.net\.1\.factor") for hook in ("on_test_start", "on_train_end")),
        *(
            ({hook: amplify}, rf"{hook} changes self\.net\.1\.factor")
            for hook in ("on_validation_start", "on_train_batch_end")
        ),
        ({"on_train_start": amplify}, None),
        ({"on_validation_start": exchange, "on_validation_end": exchange}, r"on_validation_start changes self\.net"),
    ],
)
def test_what_the_first_call_changes_for_those_before_is_told(hooks: dict[str, Any], told: str | None) -> None:
    class First(Classifier):
        def build(self) -> None:
            self.net = nn.Sequential(nn.Linear(8, CLASSES), Scaled(by_batch=not hooks))
            self.other = copy.deepcopy(self.net)

    make = seeded(Ordinary(type("Hooked", (First,), hooks), "table"))
    if told:
        with pytest.raises(NotVectorizable, match=told):
            race(trainings(), make, epochs=EPOCHS)
    else:
        assert_equals_fit(make)


SEEN: list[float] = []
SETTINGS = {"scale": 1.0}


def set_scale(scale: float) -> None:
    SETTINGS["scale"] = scale


def scale() -> float:
    return SETTINGS["scale"]


class Collecting(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        SEEN.append(loss.item())
        return loss


class ByAFunction(Classifier):
    """Sets a scale elsewhere in an epoch, and takes it from there."""

    def on_train_epoch_start(self) -> None:
        set_scale(2.0 if self.current_epoch else 1.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * scale()


def in_a_closure() -> type[Classifier]:
    steps = 0

    class InAClosure(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            nonlocal steps
            steps += 1
            return super().training_step(batch, batch_idx) * (1 + steps % 2)

    return InAClosure


def counted(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    calls = 0

    @functools.wraps(step)
    def counting(*args: Any) -> Tensor:
        nonlocal calls
        calls += 1
        return step(*args) * (1 + calls % 2)

    return counting


class ByADecorator(Classifier):
    training_step = counted(Classifier.training_step)
    validation_step = counted(Classifier.validation_step)  # which sees another number by the same name


class ByADefault(Classifier):
    def training_step(self, batch: Any, batch_idx: int, seen: list[int] = []) -> Tensor:  # noqa: B006
        seen.append(batch_idx)
        return super().training_step(batch, batch_idx) * (1 + len(seen) % 2)


class OnItsClass(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        type(self).calls = getattr(type(self), "calls", 0) + 1
        return super().training_step(batch, batch_idx) * (1 + type(self).calls % 2)


class Slotted:
    __slots__ = ("calls",)

    def __init__(self) -> None:
        self.calls = 0


class InASlot(Classifier):
    def build(self) -> None:
        super().build()
        self.held = Slotted()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.held.calls += 1
        return super().training_step(batch, batch_idx) * (1 + self.held.calls % 2)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Collecting, "training_step changes SEEN"),
        (ByADecorator, "training_step changes calls"),
        (ByADefault, "training_step changes a default of training_step"),
        (OnItsClass, r"training_step changes OnItsClass\.calls"),
        (InASlot, r"changes self\.held"),
        (ByAFunction, "on_train_epoch_start changes SETTINGS"),
        (in_a_closure(), "training_step changes steps"),
    ],
)
def test_what_a_step_changes_outside_of_its_module_is_told(kind: type[Classifier], told: str) -> None:
    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(kind, "table")), epochs=EPOCHS)


def test_what_a_step_only_reads_outside_of_its_module_is_no_reason_to_train_alone() -> None:
    class Reading(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * scale() * SETTINGS["scale"]

    race(trainings(), seeded(Ordinary(Reading, "table")), epochs=EPOCHS)


def test_a_hook_that_branches_and_then_changes_the_module_ends_the_program_in_a_line(tmp_path: Path) -> None:
    class Late(Changing):
        def on_validation_epoch_end(self) -> None:
            if self.norm.num_batches_tracked > STEPS:  # called run by run, and not so late when it is looked at first
                self.mode = "late"

    options: dict[str, Any] = {"epochs": EPOCHS, "lrs": [0.05], "metric": "val_acc"}
    raced = compare(Late, partial(Rows, "table"), {"constant": Constant()}, seeds=2, folder=tmp_path / "1", **options)
    assert raced.results.reason == "on_validation_epoch_end changes self.mode"
    with pytest.raises(InputError, match=r"on_validation_epoch_end changes self\.mode: give engine='sequential'"):
        find_lr(Late, partial(Rows, "table"), lrs=(0.01, 0.1), points=5, seeds=2, epochs=EPOCHS, folder=tmp_path / "2")


def test_the_race_says_what_it_draws_and_how_long_single_fits_take(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO")
    options: dict[str, Any] = {"seeds": 2, "epochs": 1, "lrs": [0.05]}
    for module, metric in ((VAE, "val_loss"), (Branching, "val_acc")):
        folder = tmp_path / module.__name__
        compare(module, partial(Rows, "table"), {"constant": Constant()}, metric=metric, folder=folder, **options)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "draws differ from Trainer.fit's" in said.split("Engine: sequential")[0]
    line = r"\(line \d+ of ordinary_modules\.py: return loss / 2 if loss > 1 else loss\)"
    assert re.search(rf"one Trainer\.fit a run, since a step branches on the values of its tensors {line}\.", said)
    assert re.search(r"The first run took \d+\.\d s: the other 1 take about 0:00:\d\d", said)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name",
    [
        "BatchNormMLP",
        "GRUClassifier",
        "Pretrained",
        *(
            pytest.param(name, marks=pytest.mark.exhaustive)
            for name in ("InstanceNormConv", "Ranked", "VAE", "BatchNormConv")
        ),
    ],
)
def test_company_changes_no_result_in_any_bit(name: str) -> None:
    some = [*trainings(), *trainings(0.02), *trainings(0.2)]
    make = seeded(TOGETHER[name])
    reference = race(some, make, optimizer=SGD, epochs=EPOCHS)
    for chosen, chunk_size in (([4, 1, 7], None), ([*range(9)][::-1] * 2, 48), ([*range(9)] * 2, 16)):
        for run, result in race(
            [some[place] for place in chosen], make, optimizer=SGD, epochs=EPOCHS, chunk_size=chunk_size
        ).items():
            assert bits(result) == bits(reference[chosen[run]])


def validations(make: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[int, Any]:
    """Returns how often a chunk was validated, and what came out."""
    called: list[int] = []

    class Counting(Program):
        def _evaluate_stage(self, stack: Any, stage: Any, epoch: int) -> None:
            called.append(epoch)
            super()._evaluate_stage(stack, stage, epoch)

    monkeypatch.setattr(vectorized, "Program", Counting)
    untested = Regime(limit_test=0)
    result = race(trainings(), make, optimizer=SGD, epochs=EPOCHS, workers=1, regime=untested, **options)
    return len(called), result


LEFT_OUT = ["BatchNormMLP", "LoggedAccuracy", "Collected", "EveryThirdBatch", "VAE"]
KEPT = ["Ranked", "ListsOfOutputs", "Templated"]  # their lists are emptied by hand, or by hooks that run for each run


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", [*LEFT_OUT, *KEPT])
def test_where_only_ends_are_wanted_validations_are_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    every, whole = validations(seeded(TOGETHER[name]), monkeypatch)
    count, ends = validations(seeded(TOGETHER[name]), monkeypatch, only_ends=True)
    assert (every, count) == (EPOCHS, 1 if name in LEFT_OUT else EPOCHS)
    for run, result in whole.items():
        for key, value in result.items():
            last = np.atleast_1d(value)[-1], np.atleast_1d(ends[run][key])[-1]
            np.testing.assert_array_equal(*last, err_msg=key)


class BestSoFar(Classifier):
    """Logs the best accuracy so far."""

    def build(self) -> None:
        super().build()
        self.register_buffer("best", torch.zeros(()))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.best.copy_(torch.maximum(self.best, (self(x).argmax(1) == y).float().mean()))
        self.log("val_best", self.best)


class OneMetric(Classifier):
    """Training and validation share a metric, so that validation resets it."""

    def build(self) -> None:
        super().build()
        self.mean = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.mean.update(loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.mean.update(F.cross_entropy(self(batch[0]), batch[1]))
        self.log("val_loss", self.mean)


class TrainedByValidation(Classifier):
    """Validation sets what the next epoch's loss is multiplied by."""

    def build(self) -> None:
        super().build()
        self.register_buffer("factor", torch.ones(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.factor * F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.factor.fill_(1.0).mul_(F.cross_entropy(self(batch[0]), batch[1]))
        self.log("val_loss", self.factor)


class DecayedByValidation(Classifier):
    """Makes its weights smaller after every validation."""

    def on_validation_epoch_end(self) -> None:
        for parameter in self.parameters():
            parameter.data.mul_(0.9)


class EmptiedByValidation(Classifier):
    """Keeps the losses of training up to the next validation."""

    def build(self) -> None:
        super().build()
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(outputs["loss"])

    def on_validation_epoch_end(self) -> None:
        self.log("kept", torch.stack(self.losses).mean())
        self.losses.clear()


@pytest.mark.parametrize(
    "module", [BestSoFar, OneMetric, TrainedByValidation, DecayedByValidation, EmptiedByValidation]
)
def test_validations_that_something_depends_on_are_not_left_out(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make = seeded(Ordinary(module, "table"))
    assert validations(make, monkeypatch, only_ends=True)[0] == EPOCHS


def test_a_schedule_that_follows_a_metric_needs_every_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    following = [dataclasses.replace(one, plateau=Plateau(monitor="val_loss")) for one in trainings()]
    monkeypatch.setitem(globals(), "trainings", lambda: following)
    assert validations(seeded(TOGETHER["BatchNormMLP"]), monkeypatch, only_ends=True)[0] == EPOCHS


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, within its compiler
def test_what_is_the_same_for_every_seed_lies_in_memory_once(run_all: bool) -> None:
    make = seeded(TOGETHER["Pretrained"])
    together = vectorized.VectorizedRace(make, trainings(), optimizer=SGD, epochs=EPOCHS)
    assert together.bytes_per_run < 1000 * 8 * 4
    if not run_all or shutil.which("g++") is None:
        return
    some = race(trainings(), make, optimizer=SGD, epochs=EPOCHS, compile=True)
    for run, result in race(trainings(), make, optimizer=SGD, epochs=EPOCHS).items():
        np.testing.assert_allclose(some[run]["val_loss"], result["val_loss"], atol=1e-6)


def test_a_later_seed_with_another_constant_is_told() -> None:
    class Later(Classifier):
        def build(self) -> None:
            super().build()
            self.register_buffer("scale", torch.tensor(2.0 if torch.initial_seed() == 5 else 1.0))

    three = [Training(seed, trainings()[0].rates) for seed in (3, 4, 5)]
    with pytest.raises(NotVectorizable, match="all runs would share scale, and seed 5 has another than the first two"):
        race(three, seeded(Ordinary(Later, "table")), epochs=EPOCHS, workers=1)


def test_a_diverged_run_keeps_its_statistics_to_itself() -> None:
    wild = Training(3, np.full(EPOCHS * STEPS, 1e30))
    make = seeded(TOGETHER["BatchNormMLP"])
    together = race([wild, *trainings()], make, optimizer=SGD, epochs=EPOCHS)
    apart = race(trainings(), make, optimizer=SGD, epochs=EPOCHS)
    assert together[0]["diverged"]
    assert [bits(together[run + 1]) for run in range(3)] == [bits(apart[run]) for run in range(3)]


def test_a_batch_of_one_row_is_refused_as_fit_refuses_it() -> None:
    make = seeded(Ordinary(BatchNormMLP, "table", data=partial(Rows, rows=2 * 16 + 1)))
    with pytest.raises(NotVectorizable, match="Expected more than 1 value per channel"):
        race(trainings(), make, optimizer=SGD, epochs=EPOCHS)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        alone(trainings()[0], make, SGD, EPOCHS)


def test_a_module_without_validation_and_test() -> None:
    class Bare(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = F.cross_entropy(self.net(batch[0]), batch[1])
            self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

    class TrainingRows(Rows):
        val_dataloader = test_dataloader = LightningDataModule.val_dataloader

    together = race(trainings(), seeded(Ordinary(Bare, "table", data=TrainingRows)), optimizer=SGD, epochs=EPOCHS)
    assert together[0]["train_loss"].shape == (EPOCHS,)
    assert together[0]["train_loss"][1] < together[0]["train_loss"][0]


#: What is drawn, its mean and its mean square.
DRAWN: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "rand": (lambda x: torch.rand(2000), 1 / 2, 1 / 3),
    "rand_like": (torch.rand_like, 1 / 2, 1 / 3),
    "randn": (lambda x: torch.randn(2000), 0, 1),
    "randn_like": (torch.randn_like, 0, 1),
    "normal": (lambda x: torch.normal(torch.ones_like(x), 2.0), 1, 5),
    "normal_": (lambda x: torch.empty_like(x).normal_(1, 2), 1, 5),
    "uniform_": (lambda x: torch.empty_like(x).uniform_(1, 3), 2, 13 / 3),
    "exponential_": (lambda x: torch.empty_like(x).exponential_(2), 1 / 2, 1 / 2),
    "randint": (lambda x: torch.randint(2, 5, (2000,)), 3, 29 / 3),
    "bernoulli": (lambda x: torch.bernoulli(torch.full_like(x, 0.3)), 0.3, 0.3),
    "multinomial": (lambda x: torch.multinomial(torch.tensor([1.0, 0.0, 3.0]).expand(500, 3), 1), 3 / 2, 3),
    # Ranks below 2000, and a permutation of them: mean 999.5, mean square 1999 * 3999 / 6.
    "randperm": (lambda x: torch.randperm(2000) / 2000, 0.49975, 0.33308),
    "first of randperm": (lambda x: torch.stack([torch.randperm(3)[0] for _ in range(60)]), 1, 5 / 3),
    "dropout": (lambda x: F.dropout(x + 1, 0.2), 1, 1.25),
    "dropout of what all runs share": (lambda x: F.dropout(torch.ones(2000), 0.2), 1, 1.25),
    "dropout2d": (lambda x: F.dropout2d(torch.ones_like(x).view(400, 5, 1, 1), 0.2), 1, 1.25),
    "alpha_dropout": (lambda x: F.alpha_dropout(torch.zeros_like(x), 0.2, training=True), 0, 0.38203),
}


def test_draws_have_their_distribution_and_depend_on_the_run_alone() -> None:
    class Drawing(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def training_step(self, batch: Any) -> Tensor:
            zeros = torch.zeros(2000) * self.scale.detach()
            for name, (draw, _, _) in DRAWN.items():
                drawn = draw(zeros).float()
                self.log(name, drawn.mean(), on_step=False, on_epoch=True, batch_size=1)
                self.log(f"{name} squared", (drawn**2).mean(), on_step=False, on_epoch=True, batch_size=1)
            return 0 * self.scale

    make = seeded(Ordinary(Drawing, "table"))
    runs = [Training(0, np.zeros(EPOCHS * STEPS), name=name) for name in ("a", "b", "a")]
    results = race(runs, make, optimizer=SGD, epochs=EPOCHS)
    for name, (_, mean, square) in DRAWN.items():
        # 3 steps of at least 60 draws, four standard deviations.
        found = np.array([[results[run][key] for run in (0, 1)] for key in (name, f"{name} squared")])
        spread = 4 * np.sqrt(max(square - mean**2, 1e-6) / 180)
        np.testing.assert_allclose(found[0], mean, atol=spread, err_msg=name)
        np.testing.assert_allclose(found[1], square, atol=max(6 * spread, 0.05), err_msg=name)
        if name != "randperm":
            assert len(set(found[0].ravel())) > 1, name  # neither runs nor epochs share draws
    assert bits(results[0]) == bits(results[2])


def test_no_exponential_time_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draws, "_uniform", torch.zeros)  # one of 2**24 is
    assert draws.DRAWN[torch.ops.aten.exponential_.default](torch.ones(3)).log().isfinite().all()


def test_what_is_asked_of_a_count_decides_for_which_others_a_graph_serves() -> None:
    counts = Counts(epoch=2, index=20)
    index, epoch = Count(counts, lambda epoch, index: index), Count(counts, lambda epoch, index: epoch)
    assert index % 10 == 0
    assert [i for i in range(31) if counts.serve(2, i)] == [0, 10, 20, 30]
    beta = min(1.0, (epoch + 1) / 10)
    assert isinstance(beta, Count)
    assert [e for e in range(20) if counts.serve(e, 0)] == [*range(9)]  # 1.0 is not above 10 / 10
    counts.clock = torch.tensor([6, 20])
    torch.testing.assert_close(torch.ones(2) * beta, torch.full((2,), 0.7))
    torch.testing.assert_close(beta * torch.ones(2) - epoch, torch.full((2,), -5.3))
    assert [e for e in range(20) if counts.serve(e, 0)] == [*range(9)]  # the clock asks nothing
    assert math.cos(epoch) == np.cos(epoch) == math.cos(2)
    assert [e for e in range(20) if counts.serve(e, 0)] == [2]


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 7), st.floats(-3, 3, allow_nan=False))
def test_a_count_computes_as_python_does(value: int, other: int, divisor: int, factor: float) -> None:
    def computed(number: Any) -> list[Any]:
        of_python = [number // divisor, number % divisor, 2 * number - 1, (number + 1) ** 2, number / divisor * factor]
        return [*of_python, np.float64(factor) * number, np.int64(divisor) + number, number - np.float32(0.5)]

    counts = Counts(0, value)
    symbols = computed(Count(counts, lambda epoch, index: index))
    counts.clock = torch.tensor([0, other])
    assert [symbol.known() for symbol in symbols] == computed(value)
    for symbol, expected in zip(symbols, computed(other), strict=True):
        assert symbol.tensor().item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert counts.serve(0, value)


class StartingOnce(Classifier):
    """Makes its weights smaller once, and notes in a layer, or in a configuration, that it has."""

    def build(self) -> None:
        super().build()
        self.config, self.net.is_ready = SimpleNamespace(is_ready=None), None

    def start(self, holder: Any) -> None:
        if not holder.is_ready:
            self.net[0].weight.data.mul_(0.1)
            holder.is_ready = True


@pytest.mark.parametrize(
    ("hook", "holder", "told"),
    [
        ("on_train_start", "net", r"on_train_start computes otherwise when .* first, and sets self\.net\.is_ready"),
        ("on_train_epoch_start", "net", r"on_train_epoch_start computes otherwise when it is called first"),
        ("on_train_epoch_start", "config", r"on_train_epoch_start computes otherwise when .* sets self\.config"),
        ("on_validation_epoch_end", "config", r"changes self\.config"),
    ],
)
def test_what_a_hook_does_only_once_is_told(hook: str, holder: str, told: str) -> None:
    kind = type("Once", (StartingOnce,), {hook: lambda self: self.start(getattr(self, holder))})
    with pytest.raises(NotVectorizable, match=told):
        race(trainings(), seeded(Ordinary(kind, "table")), epochs=EPOCHS)


class Configured(Classifier):
    def forward(self, x: Tensor) -> Tensor:
        if self.config.problem is None:  # as those of Hugging Face do, when labels first come
            self.config.problem = "classification"
        return super().forward(x)


def configured(make_config: Callable[[], Any]) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        module, data = seeded(Ordinary(Configured, "table"))(seed)
        module.config = module.net.config = make_config()
        return module, data

    return make


@pytest.mark.parametrize("is_shared", [False, True])
def test_what_a_configuration_notes_is_no_reason_to_train_alone(is_shared: bool) -> None:
    config = SimpleNamespace(problem=None, classes=CLASSES)
    assert_equals_fit(configured(lambda: config if is_shared else copy.copy(config)))


def test_what_seeds_write_into_a_configuration_that_they_share_is_told() -> None:
    config = SimpleNamespace(problem=None, scale=1.0)

    def make_config() -> Any:
        config.scale = float(torch.rand(()))
        return config

    with pytest.raises(NotVectorizable, match=r"all runs would share self\.(net\.)?config, and seed \d has another"):
        race(trainings(), configured(make_config), epochs=EPOCHS, workers=1)


def test_a_function_of_autograd_that_torch_func_cannot_follow_is_told() -> None:
    class Mixing(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            share = torch.distributions.Beta(1.0, 1.0).sample()
            return super().training_step([share * batch[0], batch[1]], batch_idx)

    with pytest.raises(NotVectorizable, match=r"it calls an autograd\.Function without setup_context$"):
        race(trainings(), seeded(Ordinary(Mixing, "table")), epochs=EPOCHS)

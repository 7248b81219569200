"""Weight decay in some groups and none in others, and another optimizer over the groups that a module made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD, AdamW, Optimizer

from lit_lrsched import Constant, Horizon, IonosphereClassifier, Linear, OneCycle, ScheduledLR
from lit_lrsched.errors import InputError
from lit_lrsched.optim.regroup import regroup

GROUPS = "tests.optim.test_regroup.Grouped"


def grouped(**decay: Any) -> list[dict[str, Any]]:
    first, second = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    return [
        {"params": [first], "name": "decay", **decay},
        {"params": [second], "name": "no_decay", "weight_decay": 0.0},
    ]


def test_zero_times_a_factor_is_zero():
    optimizer = AdamW(grouped(weight_decay=0.1), lr=1e-3)
    scheduler = ScheduledLR(optimizer, Constant(), Horizon(4), groups={"weight_decay": Linear()})
    for expected in (0.1, 0.075, 0.05, 0.025):
        assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([expected, 0.0])
        optimizer.step()
        scheduler.step()
    mixed = SGD([{**grouped()[0], "momentum": 0.9}, {**grouped()[1], "momentum": 0.0}], lr=0.1)
    ScheduledLR(mixed, OneCycle(momentum=0.9), Horizon(4))


def test_a_zero_that_is_named_is_refused():
    optimizer = AdamW(grouped(weight_decay=0.1), lr=1e-3)
    message = r"'weight_decay/no_decay' is 0 in this optimizer, and 0 times any factor is 0: leave it out, or give"
    with pytest.raises(InputError, match=message):
        ScheduledLR(optimizer, Constant(), Horizon(4), groups={"weight_decay/no_decay": Linear()})
    nothing = SGD(grouped(), lr=0.1)
    with pytest.raises(InputError, match="SGD has no weight_decay to schedule, it is 0"):
        ScheduledLR(nothing, Constant(), Horizon(4), groups={"weight_decay": Linear()})


def values(optimizer: Optimizer, key: str) -> list[float]:
    return [group[key] for group in optimizer.param_groups]


def test_groups_keep_parameters_names_and_ratios():
    own = AdamW([{**grouped()[0], "lr": 1e-5, "weight_decay": 0.1}, grouped()[1]], lr=1e-3)
    made, kept = regroup(lambda groups: AdamW(groups, lr=3e-4), own)
    assert values(made, "lr") == pytest.approx([3e-6, 3e-4])
    assert values(made, "weight_decay") == [0.1, 0.0]
    assert [group["params"] for group in made.param_groups] == [group["params"] for group in own.param_groups]
    assert kept == "param groups stay: decay (lr 3e-06, weight_decay 0.1), no_decay (lr 0.0003, weight_decay 0)"
    asked, _ = regroup(lambda groups: AdamW(groups, lr=3e-4, weight_decay=0.05), own)
    assert values(asked, "weight_decay") == pytest.approx([0.05, 0.0])
    with_betas = AdamW([{**grouped()[0], "betas": (0.8, 0.9)}, grouped()[1]], lr=1e-3)
    assert regroup(lambda groups: SGD(groups, lr=0.1), with_betas)[1].endswith("; SGD has no betas")


def test_a_decay_beside_groups_that_have_the_default_of_none():
    own = SGD([grouped(weight_decay=1e-4)[0], {"params": grouped()[1]["params"]}], lr=0.1)
    made, _ = regroup(lambda groups: SGD(groups, lr=0.2, weight_decay=0.01), own)
    assert values(made, "weight_decay") == [0.01, 0.0]


class PassesOn(AdamW):
    def __init__(self, params: Any, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)


def test_a_decay_that_is_not_given_stays_where_a_subclass_only_passes_it_on():
    own = SGD(grouped(weight_decay=1e-4), lr=0.1)
    assert values(regroup(lambda groups: PassesOn(groups, lr=0.2), own)[0], "weight_decay") == [1e-4, 0.0]
    given = regroup(lambda groups: PassesOn(groups, lr=0.2, weight_decay=0.05), own)[0]
    assert values(given, "weight_decay") == pytest.approx([0.05, 0.0])


def test_what_only_a_later_group_was_given_stays():
    own = SGD([grouped()[0], {**grouped()[1], "lr_scale": 0.5}], lr=0.1)
    made, _ = regroup(lambda groups: SGD(groups, lr=0.2), own)
    assert [group.get("lr_scale") for group in made.param_groups] == [None, 0.5]


class Grouped(IonosphereClassifier):
    """Weights that decay, biases that do not."""

    def configure_optimizers(self) -> Any:
        weights = [p for p in self.parameters() if p.ndim > 1]
        rest = [p for p in self.parameters() if p.ndim <= 1]
        groups = [
            {"params": weights, "weight_decay": 0.1, "name": "decay"},
            {"params": rest, "weight_decay": 0.0, "name": "no_decay"},
        ]
        return AdamW(groups, lr=1e-3)

    def __init__(self) -> None:
        super().__init__()


class Two(Grouped):
    """Several optimizers, stepped by hand."""

    def configure_optimizers(self) -> Any:
        self.automatic_optimization = False
        return [SGD([p], lr=0.1) for p in self.parameters()][:2]


def test_by_the_command(command, caplog):
    options = ["--optimizer=AdamW", "--optimizer.lr=0.01", "--lr_scheduler=Linear", "--trainer.max_epochs=2"]
    groups = ["--lr_groups={weight_decay: {class_path: Linear}}"]
    assert command("fit", f"--model={GROUPS}", *options, *groups) == 0
    kept = "Grouped's param groups stay: decay (lr 0.01, weight_decay 0.1), no_decay (lr 0.01, weight_decay 0)."
    assert kept in caplog.messages
    assert "learning rate followed the plan" in command.out
    assert command("fit", "--model=tests.optim.test_regroup.Two", *options) == 2
    assert "--optimizer is one optimizer, and Two.configure_optimizers returns 2: leave it out" in command.err
    recipe = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text().split("```yaml\n")[3].split("```")[0]
    Path("recipe.yaml").write_text(recipe)
    assert command("fit", "--config=recipe.yaml", "--trainer.max_epochs=2") == 0

"""The recipes of docs/recipes.md that have a source or a promise of their own: held against it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lit_lrsched import (
    ApplySchedule,
    Cosine,
    Formula,
    Horizon,
    OneMinusSqrt,
    Product,
    ScheduledLR,
    WarmupStableDecay,
    schedule_config,
    table,
)
from tests.training import Numbers, SaveAt, Small, Used, tiny_trainer

RECIPES = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()


def recipe(heading: str, language: str) -> str:
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## )", RECIPES, flags=re.MULTILINE | re.DOTALL)
    return re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)[0]


def test_weight_decay_by_the_rate_s_own_schedule_is_adamc():
    """Defazio 2025, algorithm 1: x <- x - rate * m / (sqrt(v) + eps) - rate**2 / peak * decay * x."""
    peak, decay, steps, eps, beta1, beta2 = 0.1, 0.5, 30, 1e-8, 0.9, 0.999
    start = torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    weights = nn.Parameter(start.clone())
    optimizer = torch.optim.AdamW([weights], lr=peak, betas=(beta1, beta2), eps=eps, weight_decay=decay)
    scheduler = ScheduledLR(optimizer, Cosine(), Horizon(steps), groups={"weight_decay": Cosine()})
    x, m, v = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for step, factor in enumerate(table(Cosine(), Horizon(steps))):
        weights.grad = 2 * weights.detach() + step
        optimizer.step()
        scheduler.step()
        gradient, rate = 2 * x + step, peak * factor
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        unbiased = m / (1 - beta1 ** (step + 1)), v / (1 - beta2 ** (step + 1))
        x = x - rate * unbiased[0] / (unbiased[1].sqrt() + eps) - rate**2 / peak * decay * x
        torch.testing.assert_close(weights.detach(), x, rtol=1e-12, atol=1e-12)


class Branching(Small):
    """Numbers that go on where they stopped, and an optimizer with a memory of its own."""

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.05, weight_decay=0.1)
        return schedule_config(optimizer, WarmupStableDecay(warmup="3st", decay="6st"), self.trainer)


def trained(steps: int, *callbacks: Callback, ckpt_path: Path | None = None) -> Trainer:
    trainer = tiny_trainer(*callbacks, max_epochs=-1, max_steps=steps)
    trainer.fit(Branching(), Numbers(5), ckpt_path=ckpt_path)  # five batches: the branches begin within epochs
    return trainer


def test_decays_that_branch_from_one_constant_run_equal_those_trained_at_once(in_tmp):
    trunk = SaveAt(in_tmp)
    trained(40, trunk)
    for start in (6, 12, 24):
        branch = trained(start + 6, ckpt_path=trunk.paths[start - 1])
        direct = trained(start + 6)
        assert branch.global_step == direct.global_step == start + 6
        assert torch.equal(branch.lightning_module.weights, direct.lightning_module.weights)
        ours, theirs = (trainer.optimizers[0].state_dict()["state"][0] for trainer in (branch, direct))
        assert all(torch.equal(ours[name], theirs[name]) for name in ("exp_avg", "exp_avg_sq", "step"))
        undecayed = torch.load(trunk.paths[start + 5], weights_only=True)["state_dict"]["weights"]
        assert not torch.equal(undecayed, branch.lightning_module.weights)


def test_power_decay_is_the_power_of_the_step_with_a_cooldown():
    """Shen et al. 2024: the rate is proportional to n**-0.51 after n steps, before the last decay."""
    assert '"(20 / max(step, 20)) ** 0.51"' in recipe("Power decay", "yaml")
    schedule = Product([Formula("(20 / max(step, 20)) ** 0.51"), WarmupStableDecay("20st", "10%")])
    factors = table(schedule, Horizon(200))
    assert factors[9] == pytest.approx(10 / 21)  # (t + 1) / (W + 1)
    assert factors[20] == 1.0
    assert factors[80] == pytest.approx(0.25**0.51)
    assert factors[179] == pytest.approx((20 / 179) ** 0.51)
    assert factors[190] == pytest.approx((20 / 190) ** 0.51 * OneMinusSqrt()(10, Horizon(20)))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
def test_muon_and_adamw_follow_one_schedule_each_at_its_own_peak(in_tmp):
    names = {"LightningModule": LightningModule, "nn": nn, "torch": torch, "ApplySchedule": ApplySchedule}
    names |= {"WarmupStableDecay": WarmupStableDecay, "Trainer": tiny_trainer}
    exec(recipe("Muon beside AdamW", "python"), names)
    rows = TensorDataset(torch.randn(40, 8), torch.randn(40, 1))
    module, used = names["Net"](), Used()
    before = [weight.detach().clone() for weight in module.parameters()]
    names["trainer"].callbacks.append(used)
    names["trainer"].fit(module, DataLoader(rows, batch_size=4))
    factors = table(WarmupStableDecay("5%", "20%"), Horizon(50))
    for number, peak in enumerate((0.02, 0.003)):
        assert [rates[0] for rates in used.by_optimizer[number]] == pytest.approx([peak * factor for factor in factors])
    assert not any(torch.equal(old, new) for old, new in zip(before, module.parameters(), strict=True))

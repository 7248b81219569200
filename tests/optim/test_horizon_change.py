"""Resumed for longer, for shorter, or with epochs of another length: the four policies, worked by hand.

The run that was stopped has 3 epochs of 4 steps, and its schedule is ``Linear()``: 0.1 * (1 - n / 12) at step n.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_lrsched import Cosine, Exponential, FromTorch, Horizon, Linear, Plateau, ScheduledLR, WarmupStableDecay
from lit_lrsched.errors import InputError
from tests.training import Forgetful, Numbers, SaveAt, Small, Used, quiet_trainer, scheduled, small, used_by

LONGER = {"max_epochs": 6}
SHORTER = {"max_epochs": 2}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The checkpoint of each of the 12 steps."""
    saver = SaveAt(tmp_path_factory.mktemp("stopped"))
    used_by(small(Linear()), saver)
    return saver.paths


@pytest.fixture(scope="module")
def after_epoch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the first epoch's end."""
    saver = SaveAt(tmp_path_factory.mktemp("stopped"), "on_train_epoch_end")
    used_by(small(Linear()), saver)
    return saver.paths[0]


@pytest.fixture(scope="module")
def stopped_by_epoch(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same of a run whose rate is held for an epoch."""
    saver = SaveAt(tmp_path_factory.mktemp("stopped"))
    used_by(small(Linear(), interval="epoch"), saver)
    return saver.paths


def resumed(ckpt: Path, policy: str, batches: int = 4, interval: str = "step", **options: Any) -> Used:
    module = small(Linear(), interval=interval, on_horizon_change=policy)
    return used_by(module, data=Numbers(batches), ckpt=ckpt, **options)


def linear(*positions: int) -> list[float]:
    """The old curve at some positions."""
    return [0.1 * (1 - position / 12) for position in positions]


jumps = pytest.mark.filterwarnings("ignore:Resumed")  # that it is said is tested below


@jumps
@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        # step 4 of 24, and on
        ("replan", [0.1 * (1 - n / 24) for n in range(4, 24)]),
        # the 8 steps that the old curve has left, then its end
        ("keep", [*linear(*range(4, 12)), *[0.0] * 12]),
        # 8 positions left for 20 steps, 0.4 a step, each the nearest whole one: 4, 4.4, 4.8, 5.2, 5.6, 6 and so on
        ("stretch", linear(4, 4, 5, 5, 6, 6, 6, 7, 7, 8, 8, 8, 9, 9, 10, 10, 10, 11, 11, 12)),
    ],
)
def test_more_epochs(policy, rates, stopped):
    assert resumed(stopped[3], policy, **LONGER).first_rates == pytest.approx(rates)


@jumps
@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ("replan", [0.1 * (1 - n / 8) for n in range(4, 8)]),
        ("keep", linear(4, 5, 6, 7)),
        ("stretch", linear(4, 6, 8, 10)),  # 8 positions left for 4 steps
    ],
)
def test_fewer_epochs(policy, rates, stopped):
    assert resumed(stopped[3], policy, **SHORTER).first_rates == pytest.approx(rates)


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        # One epoch is done, which has 8 steps now: step 8 of 24. The rate does not jump, so no one warns.
        ("replan", [0.1 * (1 - n / 24) for n in range(8, 24)]),
        # The old curve belongs to the same epochs, so each of its positions lasts two steps: 4, 4.5, 5, 5.5, ... A half
        # goes to the even neighbour.
        ("keep", linear(4, 4, 5, 6, 6, 6, 7, 8, 8, 8, 9, 10, 10, 10, 11, 12)),
        # 8 positions left for 16 steps: the same, as the run is as long in epochs
        ("stretch", linear(4, 4, 5, 6, 6, 6, 7, 8, 8, 8, 9, 10, 10, 10, 11, 12)),
    ],
)
def test_twice_as_many_batches_in_an_epoch(policy, rates, after_epoch):
    assert resumed(after_epoch, policy, batches=8).first_rates == pytest.approx(rates)


@pytest.mark.parametrize(
    ("policy", "rates"),
    [
        ("replan", [0.1 * (1 - n / 6) for n in range(2, 6)]),  # one epoch of what are now 2 steps is done
        ("keep", linear(4, 6, 8, 10)),
        ("stretch", linear(4, 6, 8, 10)),
    ],
)
def test_half_as_many_batches_in_an_epoch(policy, rates, after_epoch):
    assert resumed(after_epoch, policy, batches=2).first_rates == pytest.approx(rates)


@jumps
@pytest.mark.parametrize(
    ("policy", "epochs"),
    [
        ("replan", [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]),  # epoch 1 of 6
        ("keep", [1 / 3, 2 / 3, 1, 1, 1]),
        # 8 positions for 20 steps; epochs 1 to 5 begin 0, 4, 8, 12 and 16 steps on: positions 4, 5.6, 7.2, 8.8, 10.4
        ("stretch", [4 / 12, 6 / 12, 7 / 12, 9 / 12, 10 / 12]),
    ],
)
def test_more_epochs_with_a_rate_for_each(policy, epochs, stopped_by_epoch):
    expected = [0.1 * (1 - part) for part in epochs for _ in range(4)]
    assert resumed(stopped_by_epoch[3], policy, interval="epoch", **LONGER).first_rates == pytest.approx(expected)
    # In the middle of epoch 1 its rate is the one in force: what remains of it keeps that.
    middle = resumed(stopped_by_epoch[5], policy, interval="epoch", **LONGER)
    assert middle.first_rates == pytest.approx(expected[2:])


@pytest.mark.parametrize("batches", [2, 8])
@pytest.mark.parametrize("policy", ["replan", "keep", "stretch"])
def test_epochs_of_another_length_with_a_rate_for_each(batches, policy, tmp_path):
    saver = SaveAt(tmp_path, "on_train_epoch_end")
    used_by(small(Linear(), interval="epoch"), saver)
    used = resumed(saver.paths[0], policy, batches=batches, interval="epoch")
    # An epoch is an epoch: the rates of epochs 1 and 2 are what they would have been.
    assert used.first_rates == pytest.approx([*[0.1 * 2 / 3] * batches, *[0.1 / 3] * batches])


@jumps
def test_in_the_middle_of_an_epoch_of_another_length(stopped):
    # After 6 steps, epoch 1 has had 2 batches. Of its 8 batches now, Lightning takes 2 for done: step 8 + 2 of 24.
    longer = resumed(stopped[5], "replan", batches=8)
    assert longer.first_rates == pytest.approx([0.1 * (1 - n / 24) for n in range(10, 24)])
    # Two batches to a step: 2 of the 4 batches of epoch 1 are done, which is 1 of its 2 steps. Step 2 + 1 of 6.
    accumulated = resumed(stopped[5], "replan", accumulate_grad_batches=2)
    assert accumulated.first_rates == pytest.approx([0.1 * (1 - n / 6) for n in range(3, 6)])


@jumps
@pytest.mark.filterwarnings("ignore:.*ended before the epoch ended")
def test_an_epoch_that_has_fewer_batches_now_than_are_done(tmp_path):
    saver = SaveAt(tmp_path)
    used_by(small(Linear()), saver, data=Forgetful())
    # Of the 4 batches of epoch 1, 1 to 4 are done, and it has 2 now. With one done, Lightning goes on in the middle,
    # step 3 of 6; with 2 or 3 it begins epoch 1 anew, step 2; with all 4 it goes on with epoch 2, step 4.
    for path, first in zip(saver.paths[4:8], (3, 2, 2, 4), strict=True):
        used = used_by(small(Linear()), data=Forgetful(2), ckpt=path)
        assert used.first_rates == pytest.approx([0.1 * (1 - n / 6) for n in range(first, 6)])


@jumps
def test_such_an_epoch_is_over_where_its_data_goes_on(stopped):
    used = resumed(stopped[5], "replan", batches=2)
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 6) for n in range(4, 6)])


@jumps
def test_what_lightning_makes_of_an_epochs_last_batch_when_epochs_have_grown(stopped):
    # The checkpoint of the first epoch's last batch, not of its end: Lightning takes the epoch for done, and 4 of the
    # next one's 8 batches as well. It trains the 12 steps that this leaves of 24; a schedule that knows of the 4
    # batches alone is at step 4 then, and has not come to its end when training does.
    used = resumed(stopped[3], "replan", batches=8)
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 24) for n in range(4, 16)])


@jumps
def test_max_steps_counts_steps_whatever_an_epoch_is(tmp_path):
    saver = SaveAt(tmp_path)
    used_by(small(Linear()), saver, max_steps=10, max_epochs=-1)
    used = used_by(small(Linear()), data=Numbers(8), ckpt=saver.paths[4], max_steps=20, max_epochs=-1)
    assert used.first_rates == pytest.approx([0.1 * (1 - n / 20) for n in range(5, 20)])
    kept = used_by(
        small(Linear(), on_horizon_change="keep"), ckpt=saver.paths[4], max_steps=20, max_epochs=-1, data=Numbers(8)
    )
    assert kept.first_rates == pytest.approx([*(0.1 * (1 - n / 10) for n in range(5, 10)), *[0.0] * 10])


@jumps
def test_keep_holds_the_end_also_of_a_curve_that_has_none(tmp_path):
    saver = SaveAt(tmp_path)
    used_by(small(Exponential(0.9)), saver)
    used = used_by(small(Exponential(0.9), on_horizon_change="keep"), ckpt=saver.paths[3], **LONGER)
    # gamma counts epochs, of 4 steps each; the old run had 12 steps
    assert used.first_rates == pytest.approx([0.1 * 0.9 ** (min(n, 12) / 4) for n in range(4, 24)])


def test_error_refuses(stopped):
    message = (
        r"planned 12 steps \(4 an epoch\) and this run plans 24 steps \(4 an epoch\): choose on_horizon_change='replan'"
    )
    with pytest.raises(InputError, match=message):
        resumed(stopped[3], "error", **LONGER)
    assert resumed(stopped[3], "error").first_rates == pytest.approx(linear(*range(4, 12)))


@pytest.mark.sampled(4)
@jumps
@pytest.mark.parametrize("policy", ["replan", "keep", "stretch"])
@pytest.mark.parametrize("schedule", [Cosine(), WarmupStableDecay("10%", "20%"), FromTorch("OneCycleLR")], ids=repr)
def test_resumed_a_second_time_the_run_goes_on_exactly(policy, schedule, tmp_path, run_all):
    def module():
        return small(schedule, on_horizon_change=policy)

    first, second = SaveAt(tmp_path), SaveAt(tmp_path)
    used_by(module(), first)
    changed = used_by(module(), second, ckpt=first.paths[4], **LONGER)
    for steps in range(1, 19) if run_all else (3, 10):
        again = used_by(module(), ckpt=second.paths[steps - 1], **LONGER)
        assert again.rates == changed.rates[steps:]
        assert again.momenta == changed.momenta[steps:]


def test_stretched_twice():
    def make(steps: int) -> ScheduledLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return ScheduledLR(optimizer, Linear(), Horizon(steps), on_horizon_change="stretch")

    def follow(scheduler: ScheduledLR, ticks: int) -> list[float]:
        rates = []
        for _ in range(ticks):
            rates.append(scheduler.get_last_lr()[0])
            scheduler.step()
        return rates

    first, second, third = make(12), make(20), make(32)
    follow(first, 4)
    second.load_state_dict(first.state_dict())
    # positions 4 to 12 over steps 4 to 20: 0.5 a step. At step 12 that is position 8.
    assert follow(second, 8) == pytest.approx(linear(4, 4, 5, 6, 6, 6, 7, 8))
    third.load_state_dict(second.state_dict())
    # positions 8 to 12 over steps 12 to 32: 0.2 a step
    expected = [round(8 + 0.2 * n) for n in range(20)]
    assert expected[:6] == [8, 8, 8, 9, 9, 9]
    assert follow(third, 20) == pytest.approx(linear(*expected))
    assert third.position == 12


@jumps
@given(
    st.sampled_from(["keep", "stretch"]),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),  # epochs and steps in each, as planned at first
    st.tuples(st.integers(1, 12), st.integers(1, 12)),  # and now
    st.floats(0, 1),
)
def test_wherever_a_run_is_resumed_the_old_curve_goes_on(policy, before, after, share):
    def make(epochs: int, steps_per_epoch: int) -> ScheduledLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        horizon = Horizon(epochs * steps_per_epoch, steps_per_epoch)
        return ScheduledLR(optimizer, Linear(), horizon, on_horizon_change=policy)

    old, new = make(*before), make(*after)
    for _ in range(round(share * (old.horizon.steps - 1))):
        old.step()
    new.load_state_dict(old.state_dict())
    assert new.get_last_lr() == old.get_last_lr()  # no jump
    first = new.last_epoch
    positions = []
    for _ in range(first, new.horizon.steps):
        positions.append(new.position)
        new.step()
    assert positions == sorted(positions)
    assert all(position <= old.horizon.steps for position in positions)
    if policy == "stretch" and first < new.horizon.steps:
        assert new.position == old.horizon.steps  # both end together


def test_of_another_metric_a_plateau_keeps_what_was_cut_and_not_what_was_best():
    def make(monitor: str) -> ScheduledLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return ScheduledLR(optimizer, Plateau(monitor=monitor, patience=0, factor=0.5), Horizon(10))

    before, after, same = make("val_acc"), make("val_loss"), make("val_acc")
    for accuracy in (0.9, 0.8):
        before.observe(accuracy)
    after.load_state_dict(before.state_dict())
    same.load_state_dict(before.state_dict())
    assert same.plateau == before.plateau
    for loss in (2.3, 2.0):
        after.observe(loss)
    assert after.get_last_lr() == [0.05]


def test_both_rates_are_told_before_the_first_step(stopped, caplog):
    caplog.set_level("INFO", logger="lightning.pytorch")
    told: list[bool] = []

    class Listens(Used):
        def on_train_batch_start(self, *_: Any) -> None:
            told.append(any(text.startswith("Resumed") for text in caplog.messages))

    # from 0.1 * (1 - 4/12), which the old run would have used next, to 0.1 * (1 - 4/24)
    text = "Resumed at step 4 of 24: learning rate 0.0666667 -> 0.0833333 (replan: the checkpoint planned 12 steps)"
    with pytest.warns(UserWarning, match=re.escape(f"{text}: a jump of more than 1 %")):
        used_by(small(Linear()), Listens(), ckpt=stopped[3], **LONGER)
    assert text in caplog.messages
    assert told[0]


@pytest.mark.parametrize(("lr", "warns"), [(0.1009, False), (0.1011, True), (0.0991, False), (0.0989, True)])
def test_a_jump_of_more_than_one_percent_is_a_warning(lr, warns, recwarn):
    def make(lr: float) -> ScheduledLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        return ScheduledLR(optimizer, Linear(), Horizon(10))

    after = make(lr)
    after.load_state_dict(make(0.1).state_dict())
    assert len(recwarn) == warns


def test_past_the_end_of_the_new_horizon_the_end_is_held():
    def make(steps: int) -> ScheduledLR:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        return ScheduledLR(optimizer, Linear(end=0.2), Horizon(steps))

    before, after = make(100), make(50)
    for _ in range(80):
        before.step()
    with pytest.warns(UserWarning, match=r"Resumed at step 80 of 50: learning rate 0\.036 -> 0\.02 \(replan"):
        after.load_state_dict(before.state_dict())
    assert after.get_last_lr() == pytest.approx([0.02])


def test_data_that_changes_its_length_while_training_is_told():
    class Growing(Small):
        def train_dataloader(self) -> Forgetful:
            return Forgetful(4 if self.trainer.current_epoch < 2 else 6)

    used = Used()
    trainer = quiet_trainer(used, max_epochs=4, reload_dataloaders_every_n_epochs=1)
    text = "made for 16 steps (4 an epoch) and does not follow: as of epoch 2, training is one of 24 steps (6 an epoch)"
    with pytest.warns(UserWarning, match=re.escape(text)) as warned:
        trainer.fit(Growing(scheduled(Linear())))
    assert sum("does not follow" in str(one.message) for one in warned) == 1
    # 20 steps, of which the schedule knew 16
    assert used.first_rates == pytest.approx([0.1 * (1 - min(n, 16) / 16) for n in range(20)])

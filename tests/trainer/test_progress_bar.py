"""The one bar for a whole run."""

from __future__ import annotations

import pytest

from lit_lrsched.trainer.callbacks.progress_bar import RunProgressBar
from tests.training import Endless, Forgetful, Small, quiet_trainer


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({"max_epochs": 3}, 33),
        ({"max_epochs": 3, "max_steps": 20}, 20),
        ({"max_epochs": 1, "max_steps": 20}, 11),
        # Three steps an epoch, the last one of three batches.
        ({"max_steps": 6, "accumulate_grad_batches": 4}, 22),
        ({"max_steps": 8, "accumulate_grad_batches": 4}, 30),
        ({"max_steps": 2, "accumulate_grad_batches": 4}, 8),
    ],
)
def test_its_end_is_that_of_the_run(options, batches, capsys):
    bar = RunProgressBar()
    trainer = quiet_trainer(bar, **{"max_epochs": -1, "enable_progress_bar": True, **options})
    trainer.fit(Small(), Forgetful(11))
    assert (bar.train_progress_bar.total, bar.train_progress_bar.n) == (batches, batches)


def test_data_without_a_length_has_the_end_of_its_steps(capsys):
    bar = RunProgressBar()
    trainer = quiet_trainer(bar, max_epochs=-1, max_steps=3, accumulate_grad_batches=2, enable_progress_bar=True)
    trainer.fit(Small(), Endless(20))
    assert (bar.train_progress_bar.total, bar.train_progress_bar.n) == (6, 6)

"""Which part of the data a metric is of, by its name: ``val_loss``, ``val/loss``, ``loss/valid``."""

from __future__ import annotations

import re
from typing import Literal

_STAGES = {"val": r"val(?:id|idation)?", "test": "test"}


def is_of(name: str, stage: Literal["val", "test"]) -> bool:
    """Tells whether a metric is of the validation or the test data.

    >>> is_of("val/loss", "val"), is_of("value_loss", "val"), is_of("test_acc", "test")
    (True, False, True)
    """
    return re.search(_word(stage), name) is not None


def on_test_data(name: str) -> str:
    """Returns the name of the same metric on the test data.

    >>> [on_test_data(name) for name in ("val_acc", "val/loss", "loss/valid", "acc")]
    ['test_acc', 'test/loss', 'loss/test', 'test_acc']
    """
    return re.sub(_word("val"), "test", name, count=1) if is_of(name, "val") else f"test_{name}"


def _word(stage: Literal["val", "test"]) -> str:
    return rf"(?<![A-Za-z]){_STAGES[stage]}(?![A-Za-z])"

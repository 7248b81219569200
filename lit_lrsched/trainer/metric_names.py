"""Which part of the data a metric is of, by its name: ``val_loss``, ``val/loss``, ``loss/valid``."""

from __future__ import annotations

import re

_OF_VALIDATION = re.compile(r"(?<![A-Za-z])val(?:id|idation)?(?![A-Za-z])")


def on_test_data(name: str) -> str:
    """Returns the name of the same metric on the test data.

    >>> [on_test_data(name) for name in ("val_acc", "val/loss", "loss/valid", "value_loss")]
    ['test_acc', 'test/loss', 'loss/test', 'test_value_loss']
    """
    return _OF_VALIDATION.sub("test", name, count=1) if _OF_VALIDATION.search(name) else f"test_{name}"

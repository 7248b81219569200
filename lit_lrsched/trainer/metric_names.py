"""Which part of the data a metric is of, by its name: ``val_loss``, ``val/loss``, ``loss/valid``."""

from __future__ import annotations

import re

_OF_VALIDATION = re.compile(r"(?<![A-Za-z])val(?:id|idation)?(?![A-Za-z])")


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_VALIDATION = frozenset(["val", "valid", "validation"])
_OF_ALL = frozenset(["loss", "total", "mean", "avg", "average", "epoch"])


def is_of_validation(name: str) -> bool:
    """Returns whether a metric is of the validation data.

    >>> [is_of_validation(name) for name in ("val_loss", "loss/valid0", "valLoss", "value_loss", "interval")]
    [True, True, True, False, False]
    """
    return any(word.lower() in _VALIDATION for word in _WORDS.findall(name))


def is_whole_loss(name: str) -> bool:
    """Returns whether a metric of the validation data is called the loss, with no word for a part of it.

    >>> [is_whole_loss(name) for name in ("val_loss", "valid/total_loss", "val_kl_loss", "loss/val_box", "val_mse")]
    [True, True, False, False, False]
    """
    words = {word.lower() for word in _WORDS.findall(name)}
    return "loss" in words and words <= _VALIDATION | _OF_ALL


def on_test_data(name: str) -> str:
    """Returns the name of the same metric on the test data.

    >>> [on_test_data(name) for name in ("val_acc", "val/loss", "loss/valid", "value_loss")]
    ['test_acc', 'test/loss', 'loss/test', 'test_value_loss']
    """
    return _OF_VALIDATION.sub("test", name, count=1) if _OF_VALIDATION.search(name) else f"test_{name}"

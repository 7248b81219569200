"""torchmetrics without branches on the data, which a traced step could not follow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
import torchmetrics.utilities.compute
from torch import Tensor
from torchmetrics.aggregation import BaseAggregator


def _normalized(tensor: Tensor, normalization: str | None) -> Tensor:
    """Equals torchmetrics' ``normalize_logits_if_needed`` without its branch on the data."""
    if not normalization:
        return tensor
    probabilities = tensor.sigmoid() if normalization == "sigmoid" else tensor.softmax(dim=1)
    return torch.where(((tensor >= 0) & (tensor <= 1)).all(), tensor, probabilities)


@contextmanager
def branchless_metrics() -> Iterator[None]:
    """Lets torchmetrics normalize without its branch on the data."""
    original = torchmetrics.utilities.compute.normalize_logits_if_needed
    name = original.__name__
    users = [
        module
        for path, module in sys.modules.items()
        if path.startswith("torchmetrics.") and vars(module).get(name) is original
    ]
    patches = [mock.patch.object(user, name, _normalized) for user in users]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def unchecked_cast(metric: BaseAggregator) -> Callable[..., tuple[Tensor, Tensor]]:
    """Equals the aggregator's own cast, without its search for nan: a diverged run shall show it."""
    ignores_weight = metric.nan_strategy == "disable"  # as torchmetrics 1.x does

    def cast(x: Any, weight: Any = None) -> tuple[Tensor, Tensor]:
        x = torch.as_tensor(x, dtype=metric.dtype, device=metric.device)
        weight = torch.ones_like(x) if weight is None or ignores_weight else weight
        return x, torch.as_tensor(weight, dtype=metric.dtype, device=metric.device)

    return cast

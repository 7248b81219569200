"""What a traced step needs of torchmetrics beyond its public names, each checked with torchmetrics 1.9.

A traced step cannot follow a branch on the values of its tensors, and torchmetrics has a few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torchmetrics.utilities.compute
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.aggregation import BaseAggregator, MaxMetric, MeanMetric, MinMetric, SumMetric

#: Names that no documentation promises, by the object that has them; a test looks for each.
PRIVATE_NAMES: Mapping[Any, tuple[str, ...]] = {
    Metric: ("_defaults", "_computed", "_update_count", "_forward_cache"),
    MetricCollection: ("_enable_compute_groups",),
    BaseAggregator: ("_cast_and_nan_check_input",),
    torchmetrics.utilities.compute: ("normalize_logits_if_needed",),
}

# With which number an aggregator's update changes nothing; that of a mean also takes a weight of 0.
_UNCHANGED_BY: Mapping[Callable[..., None], float] = {
    MaxMetric.update: -math.inf,
    MeanMetric.update: 0.0,
    MinMetric.update: math.inf,
    SumMetric.update: 0.0,
}

#: What every metric and every collection notes for itself. What else one of them holds has a part in what it computes.
BOOKKEEPING = frozenset(name for one in (SumMetric(), MetricCollection([])) for name in vars(one) if name[0] == "_")


def defaults_of(metric: Metric) -> Mapping[str, Any]:
    """Returns the states of a metric before it has seen data, by name."""
    return metric._defaults


def settings_of(metric: Metric) -> dict[str, Any]:
    """Returns all that an object holds but the methods that were wrapped or replaced for it alone."""
    own = {"update", "compute", "forward", "reset", "_cast_and_nan_check_input"}
    return {name: value for name, value in vars(metric).items() if name not in own}


def has_seen_data(metric: Metric) -> None:
    """Makes a metric whose states were just set compute anew, and without a warning that it saw no data."""
    metric._computed = None
    metric._forward_cache = None
    metric._update_count = 1


def value_of_batch(metric: Metric) -> Any:
    """Returns what a metric said of the last batch that it was called with; None where it was only updated."""
    return metric._forward_cache


def say_of_batch(metric: Metric, value: Any) -> None:
    """Sets what a metric says of the last batch."""
    metric._forward_cache = value


def without_compute_groups(metrics: MetricCollection) -> None:
    """Keeps the metrics of a collection from sharing states, which they find out by comparing values."""
    metrics._enable_compute_groups = False


def treats_nan_without_branches(metric: BaseAggregator) -> None:
    """Lets an aggregator treat nan as its ``nan_strategy`` says without its branch on values, where there is a way.

    There is none to leave it out of what keeps all values, as ``CatMetric`` does: that branches. Where nan is an error,
    which would stop all runs, the run that has it shows it.
    """
    if metric.nan_strategy not in ("ignore", "warn") or type(metric).update in _UNCHANGED_BY:
        metric._cast_and_nan_check_input = _cast_without_branches(metric)  # type: ignore[method-assign]


def _cast_without_branches(metric: BaseAggregator) -> Callable[..., tuple[Tensor, Tensor]]:
    strategy = metric.nan_strategy
    # What stands for nan, and with which weight; without a strategy nothing does, and torchmetrics 1.x ignores weights.
    nothing = _UNCHANGED_BY.get(type(metric).update, 0.0)
    instead, its_weight = (strategy, 1.0) if isinstance(strategy, float) else (nothing, 0.0)

    def cast(x: Any, weight: Any = None) -> tuple[Tensor, Tensor]:
        x = torch.as_tensor(x, dtype=metric.dtype, device=metric.device)
        weight = torch.ones_like(x) if weight is None or strategy == "disable" else weight
        weight = torch.as_tensor(weight, dtype=metric.dtype, device=metric.device)
        if strategy in ("disable", "error"):
            return x, weight
        is_nan = x.isnan() | weight.isnan()
        return torch.where(is_nan, instead, x), torch.where(is_nan, its_weight, weight)

    return cast


@contextmanager
def branchless_metrics() -> Iterator[None]:
    """Lets the metrics of classification normalize logits without their branch on values, and restores it.

    The function has no switch, and hundreds of modules have imported it by name: what is replaced for as long as a step
    is traced is its code.
    """
    function = torchmetrics.utilities.compute.normalize_logits_if_needed
    original = function.__code__
    function.__code__ = _normalized.__code__
    try:
        yield
    finally:
        function.__code__ = original


def _normalized(tensor: Tensor, normalization: str | None) -> Tensor:
    """Equals torchmetrics' ``normalize_logits_if_needed`` without its branch on the data.

    It runs in its place, and finds there the names that it uses: ``torch`` and ``Tensor``.
    """
    if not normalization:
        return tensor
    probabilities = tensor.sigmoid() if normalization == "sigmoid" else tensor.softmax(dim=1)
    return torch.where(((tensor >= 0) & (tensor <= 1)).all(), tensor, probabilities)

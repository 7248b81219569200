"""Averages of weights by ``AveragedModel``, which decides by a number of each run whether it copies or averages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn


def average_without_branches(module: nn.Module) -> None:
    """Lets the averages in a module compute both, and take what a run needs."""
    for part in module.modules():
        if isinstance(part, AveragedModel) and type(part).update_parameters is AveragedModel.update_parameters:
            vars(part)["update_parameters"] = partial(_update, part)


def _update(averaged: AveragedModel, model: nn.Module) -> None:
    """Does what ``AveragedModel.update_parameters`` does."""
    own, given = _tensors(averaged.module, averaged.use_buffers), _tensors(model, averaged.use_buffers)
    count: Any = averaged.n_averaged
    is_first = count == 0
    for mean, tensor, average in zip(own, given, _averages(averaged, own, given, count), strict=True):
        mean.copy_(torch.where(is_first, tensor, average))
    if not averaged.use_buffers:
        for copied, buffer in zip(averaged.module.buffers(), model.buffers(), strict=True):
            copied.detach().copy_(buffer.detach())
    count += 1


def _averages(averaged: AveragedModel, own: list[Tensor], given: list[Tensor], count: Tensor) -> list[Tensor]:
    if averaged.avg_fn is not None:
        return [averaged.avg_fn(mean, tensor, count) for mean, tensor in zip(own, given, strict=True)]
    average: Callable[..., None] = averaged.multi_avg_fn or get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
    found = [mean.clone() for mean in own]
    for dtype in {tensor.dtype for tensor in own}:
        places = [place for place, tensor in enumerate(own) if tensor.dtype is dtype]
        average([found[place] for place in places], [given[place] for place in places], count)
    return found


def _tensors(model: nn.Module, with_buffers: bool) -> list[Tensor]:
    tensors = [*model.parameters(), *(model.buffers() if with_buffers else ())]
    return [tensor.detach() for tensor in tensors]

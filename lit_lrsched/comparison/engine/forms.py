"""Functions that torch.func cannot follow, or takes apart into many operations, in forms that it can follow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lit_lrsched.comparison.engine.norms import batch_norm, instance_norm
from lit_lrsched.comparison.engine.recurrent import dropped, gru, lstm, rnn_relu, rnn_tanh


class Followable(TorchFunctionMode):
    """Computes the same by other operations: see the table below."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        form = _FORMS.get(func)
        if form is not None:
            out = form(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        return func(*args, **(kwargs or {}))


def _randperm(n: int, *, generator: Any = None, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    if generator is not None:
        return NotImplemented
    return torch.rand(n, device=device).argsort().to(dtype or torch.int64)


def _multinomial(input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None) -> Any:
    if generator is not None or (replacement and num_samples > 1):
        return NotImplemented
    # Of exponential times with these rates, the first to end are a sample without replacement.
    times = -torch.rand_like(input).neg().log1p() / input
    return times.topk(num_samples, largest=False).indices


def _bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Any:
    if weights is not None or not minlength:
        return NotImplemented  # as long as the largest number demands
    return (input.reshape(-1, 1) == torch.arange(minlength, device=input.device)).sum(0)


def _embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Any = None,
    *args: Any,
    mode: str = "mean",
    padding_idx: Any = None,
    **kwargs: Any,
) -> Any:
    if (
        input.dim() != 2
        or args
        or padding_idx is not None
        or any(value not in (None, False, 2.0) for value in kwargs.values())
    ):
        return NotImplemented
    bags = F.embedding(input, weight)
    return bags.mean(1) if mode == "mean" else bags.sum(1) if mode == "sum" else bags.amax(1)


def _binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    if any(given is not None for given in (weight, size_average, reduce, pos_weight)) or input.shape != target.shape:
        return NotImplemented
    # Three operations in place of fourteen, and as much less for the gradient.
    losses = F.softplus(input, threshold=40.0) - input * target
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def _one_hot(input: Tensor, num_classes: int = -1) -> Any:
    if num_classes < 0:
        return NotImplemented  # as many as the largest number demands
    return (input.unsqueeze(-1) == torch.arange(num_classes, device=input.device)).to(torch.int64)


def _setitem(tensor: Tensor, index: Any, value: Any) -> Any:
    masked = isinstance(index, Tensor) and index.dtype is torch.bool
    if not masked or (isinstance(value, Tensor) and value.dim()):
        return NotImplemented
    tensor.masked_fill_(index.reshape(*index.shape, *[1] * (tensor.dim() - index.dim())), value)
    return None


_FORMS: dict[Any, Any] = {
    F.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
    F.dropout: dropped,
    torch.randperm: _randperm,
    torch.multinomial: _multinomial,
    Tensor.multinomial: _multinomial,
    torch.bincount: _bincount,
    Tensor.bincount: _bincount,
    Tensor.__setitem__: _setitem,
    F.embedding_bag: _embedding_bag,
    F.one_hot: _one_hot,
    F.binary_cross_entropy_with_logits: _binary_cross_entropy_with_logits,
    torch.gru: gru,
    torch.lstm: lstm,
    torch.rnn_tanh: rnn_tanh,
    torch.rnn_relu: rnn_relu,
}

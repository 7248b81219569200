"""Functions that torch.func cannot follow, or takes apart into many operations, in forms that it can follow."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lit_lrsched.comparison.engine.items import as_tensor, item, listed
from lit_lrsched.comparison.engine.norms import batch_norm, instance_norm
from lit_lrsched.comparison.engine.recorder import ChangesItself, NotVectorizable
from lit_lrsched.comparison.engine.recurrent import (
    dropped,
    gru,
    gru_cell,
    lstm,
    lstm_cell,
    rnn_relu,
    rnn_relu_cell,
    rnn_tanh,
    rnn_tanh_cell,
)
from lit_lrsched.optim.torch_internals import distributions_check, name_for_each, weight_norm


class Followable(TorchFunctionMode):
    """Computes the same by other operations: see the table below. Distributions do not look at their arguments."""

    def __enter__(self) -> Any:
        self._checks = distributions_check(False)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        distributions_check(self._checks)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        form = _FORMS.get(func)
        if form is not None:
            out = form(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        if name := name_for_each(func):
            method = getattr(Tensor, name)
            return _one_by_one(_FORMS.get(method, method), *args, **(kwargs or {}))
        kwargs = kwargs or {}
        return func(*args, **kwargs) if kwargs.get("out") is None else _written(func, *args, **kwargs)


class FixedGradients(TorchFunctionMode):
    """Refuses to change which tensors have a gradient: a program is made for those that have one at its start.

    It also refuses to look at gradients where they are not given, though a trainer has those of the last backward, and
    to set the data of a tensor anew while something else shows it: a program writes into its memory.

    Args:
        trained: Tensors that stand for parameters with ``requires_grad``, which theirs does not tell.
        are_seen: Whether gradients are given.

    Attributes:
        bare: Ids of tensors of which a step takes ``data``: what is written there no version tells.
    """

    def __init__(self, trained: Iterable[Tensor], are_seen: bool) -> None:
        super().__init__()
        self._are_seen = are_seen
        self._trained = {id(tensor) for tensor in trained}
        self._shown: list[tuple[int, weakref.ref[Tensor]]] = []
        self.bare: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.requires_grad_, Tensor.requires_grad.__set__):  # type: ignore[attr-defined]
            raise ChangesItself("it sets requires_grad while it trains")
        if func == Tensor.grad.__get__ and not self._are_seen:  # type: ignore[union-attr]
            raise NotVectorizable("it looks at gradients outside of on_after_backward and on_before_optimizer_step")
        if func == Tensor.requires_grad.__get__ and id(args[0]) in self._trained:  # type: ignore[attr-defined]
            return True
        if func == Tensor.data.__get__:  # type: ignore[attr-defined]
            self.bare.add(id(args[0]))
        if func == Tensor.data.__set__ and self._is_kept(*args):  # type: ignore[attr-defined]
            raise NotVectorizable("a step sets the data of a tensor anew, and keeps what it was without a copy")
        out = func(*args, **(kwargs or {}))
        if func in (Tensor.data.__get__, Tensor.detach):  # type: ignore[attr-defined]
            self._shown.append((id(args[0]), weakref.ref(out)))
        return out

    def _is_kept(self, tensor: Tensor, value: Tensor) -> bool:
        """Returns whether anything shows a tensor's data but the value that it is set to, as ``t.data += 1`` does."""
        shown = (shown() for of, shown in self._shown if of == id(tensor))
        return any(one is not None and one is not value for one in shown)


class OwnTensors(TorchFunctionMode):
    """Gives each run a tensor of its own where a step makes one for all runs alike, so that they may write into it.

    Args:
        like: A tensor of which each run has its own.
    """

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        self._like = like

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func not in _MAKING:
            return out
        return self._like.new_empty(out.shape, dtype=out.dtype, device=out.device).copy_(out)


_MAKING = frozenset(
    getattr(torch, name + suffix) for name in ("zeros", "ones", "full", "empty") for suffix in ("", "_like")
) | {torch.tensor}


def _written(func: Any, *args: Any, out: Any, **kwargs: Any) -> Any:
    found = func(*args, **kwargs)
    if not isinstance(found, Tensor) or found.shape != out.shape:
        return func(*args, out=out, **kwargs)
    return out.copy_(found)


def _one_by_one(method: Any, tensors: Sequence[Tensor], *args: Any, **kwargs: Any) -> list[Any]:
    each = [arg if isinstance(arg, (list, tuple)) else [arg] * len(tensors) for arg in args]
    return [method(*parts, **kwargs) for parts in zip(tensors, *each, strict=True)]


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
    return _hot(input.reshape(-1), minlength).sum(0)


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
    return _reduced(losses, reduction)


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


def _kl_div(
    input: Tensor,
    target: Tensor,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Any:
    if size_average is not None or reduce is not None:
        return NotImplemented
    losses = target.exp() * (target - input) if log_target else torch.xlogy(target, target) - target * input
    return losses.sum() / len(input) if reduction == "batchmean" else _reduced(losses, reduction)


def _triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    if size_average is not None or reduce is not None:
        return NotImplemented
    near, far = (F.pairwise_distance(anchor, other, p, eps) for other in (positive, negative))
    if swap:
        far = torch.minimum(far, F.pairwise_distance(positive, negative, p, eps))
    return _reduced((margin + near - far).clamp_min(0), reduction)


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product = torch.einsum("...i,oij,...j->...o", input1, weight, input2)
    return product if bias is None else product + bias


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    over = [other for other in range(v.dim()) if dim == -1 or other != dim]
    return v * (g / v.square().sum(over, keepdim=True).sqrt())


def _one_hot(input: Tensor, num_classes: int = -1) -> Any:
    if num_classes < 0:
        return NotImplemented  # as many as the largest number demands
    return _hot(input, num_classes).to(torch.int64)


_LEFT_OUT: list[list[Tensor]] = []


@contextmanager
def left_out() -> Iterator[list[Tensor]]:
    """Collects for every ``bincount`` and ``one_hot`` whether it leaves numbers out, of which it has no place.

    torch's ``bincount`` would make more places, and its ``one_hot`` raise an error.
    """
    _LEFT_OUT.append([])
    try:
        yield _LEFT_OUT[-1]
    finally:
        _LEFT_OUT.pop()


def _hot(numbers: Tensor, places: int) -> Tensor:
    if _LEFT_OUT:
        _LEFT_OUT[-1].append(((numbers < 0) | (numbers >= places)).any())
    return numbers.unsqueeze(-1) == torch.arange(places, device=numbers.device)


def _setitem(tensor: Tensor, index: Any, value: Any) -> Any:
    masked = isinstance(index, Tensor) and index.dtype is torch.bool
    if not masked or (isinstance(value, Tensor) and value.dim()):
        return NotImplemented
    tensor.masked_fill_(index.reshape(*index.shape, *[1] * (tensor.dim() - index.dim())), value)
    return None


def _format(tensor: Tensor, spec: str) -> Any:
    number = item(tensor) if tensor.dim() == 0 else NotImplemented
    return number if number is NotImplemented else format(number, spec)


def _set_data(tensor: Tensor, value: Tensor) -> Any:
    if tensor.shape != value.shape or tensor.dtype != value.dtype:
        return NotImplemented
    with torch.no_grad():
        tensor.copy_(value)
    return None


def _scatter_(tensor: Tensor, dim: int, index: Tensor, src: Any = None, **kwargs: Any) -> Any:
    if "reduce" in kwargs:
        return NotImplemented
    return tensor.copy_(torch.scatter(tensor, dim, index, kwargs.get("value", src)))


def _written_over(function: Any) -> Any:
    def form(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return tensor.copy_(function(tensor, *args, **kwargs))

    return form


# Of these torch.func knows the operation, and not the one that changes its tensor: it would loop over all runs.
_IN_PLACE = (
    *("addcdiv", "addcmul", "clamp", "clip", "floor_divide", "fmod", "lerp", "negative", "remainder", "square"),
    *("subtract", "tril", "triu", "xlogy"),
)


def _in_any_format(function: Any) -> Any:
    def form(*args: Any, memory_format: Any = None, **kwargs: Any) -> Any:
        # It says how numbers lie in memory, and knows no dimension of runs.
        return NotImplemented if memory_format is None else function(*args, **kwargs)

    return form


_FORMS: dict[Any, Any] = {
    **{getattr(Tensor, f"{name}_"): _written_over(getattr(Tensor, name)) for name in _IN_PLACE},
    Tensor.to: _in_any_format(Tensor.to),
    Tensor.contiguous: _in_any_format(Tensor.contiguous),
    torch.clone: _in_any_format(torch.clone),
    Tensor.clone: _in_any_format(Tensor.clone),
    Tensor.item: item,
    Tensor.tolist: listed,
    Tensor.__format__: _format,
    torch.tensor: as_tensor,
    torch.as_tensor: as_tensor,
    F.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
    F.dropout: dropped,
    torch.randperm: _randperm,
    torch.multinomial: _multinomial,
    Tensor.multinomial: _multinomial,
    torch.bincount: _bincount,
    Tensor.bincount: _bincount,
    Tensor.__setitem__: _setitem,
    Tensor.data.__get__: Tensor.detach,  # type: ignore[attr-defined]
    Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    Tensor.scatter_: _scatter_,
    F.embedding_bag: _embedding_bag,
    F.one_hot: _one_hot,
    F.binary_cross_entropy_with_logits: _binary_cross_entropy_with_logits,
    F.kl_div: _kl_div,
    F.triplet_margin_loss: _triplet_margin_loss,
    F.bilinear: _bilinear,
    weight_norm(): _weight_norm,
    torch.gru_cell: gru_cell,
    torch.lstm_cell: lstm_cell,
    torch.rnn_tanh_cell: rnn_tanh_cell,
    torch.rnn_relu_cell: rnn_relu_cell,
    torch.gru: gru,
    torch.lstm: lstm,
    torch.rnn_tanh: rnn_tanh,
    torch.rnn_relu: rnn_relu,
}

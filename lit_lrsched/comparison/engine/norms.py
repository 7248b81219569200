"""Normalization by plain sums: how torch's own kernels round depends on the place of a run among the runs."""

from __future__ import annotations

from torch import Tensor


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Computes ``torch.nn.functional.batch_norm``, and changes the running statistics as it does."""
    if training:
        over = [0, *range(2, input.dim())]
        return _by_its_own(input, over, running_mean, running_var, weight, bias, momentum, eps)
    assert running_mean is not None
    assert running_var is not None
    return _scaled(input - _wide(running_mean, input), _wide(running_var, input), weight, bias, eps)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Computes ``torch.nn.functional.instance_norm``, likewise."""
    if use_input_stats:
        over = list(range(2, input.dim()))
        return _by_its_own(input, over, running_mean, running_var, weight, bias, momentum, eps)
    return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)


def _by_its_own(
    input: Tensor,
    over: list[int],
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    momentum: float,
    eps: float,
) -> Tensor:
    count = 1
    for dimension in over:
        count *= input.shape[dimension]
    if count == 1:  # in torch's words
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
    mean = input.mean(over, keepdim=True)
    centered = input - mean
    var = (centered * centered).mean(over, keepdim=True)
    for running, value in ((running_mean, mean), (running_var, var * (count / (count - 1)))):
        if running is not None:
            # Where every row has statistics of its own, their mean counts.
            channels = value.detach().transpose(0, 1).flatten(1).mean(1)
            running.mul_(1 - momentum).add_(channels, alpha=momentum)
    return _scaled(centered, var, weight, bias, eps)


def _scaled(centered: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    scaled = centered * (var + eps).rsqrt()
    if weight is not None:
        scaled = scaled * _wide(weight, centered)
    return scaled if bias is None else scaled + _wide(bias, centered)


def _wide(channels: Tensor, input: Tensor) -> Tensor:
    return channels.view(-1, *[1] * (input.dim() - 2))

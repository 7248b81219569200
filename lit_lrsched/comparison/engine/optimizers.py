"""torch's SGD, Adam and AdamW for many runs at once: parameters ``[R, ...]``, each run with its own learning rate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_lrsched.comparison.engine.pure_module import Tensors
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.param_groups import betas_of, get_value


class Update(ABC):
    """One step of an optimizer, for all runs at once.

    What changes from step to step and from run to run is computed beforehand in float64, as torch's optimizers
    compute it in Python, and enters the step as coefficients ``[C, R]``.
    """

    #: What the optimizer drives by a momentum table: SGD's ``momentum``, the first of Adam's ``betas``.
    momentum: float

    @abstractmethod
    def slots(self, parameters: Tensors) -> dict[str, Tensors]:
        """Returns what the optimizer remembers for each parameter, before the first step."""

    @abstractmethod
    def coefficients(self, rates: Tensor, momenta: Tensor, first: int) -> Tensor:
        """Returns the coefficients of T steps.

        Args:
            rates: Learning rates, float64 ``[T, R]``.
            momenta: Momenta, float64 ``[T, R]``.
            first: 0-based count of the steps taken before these.

        Returns:
            float64 ``[T, C, R]``.
        """

    @abstractmethod
    def update_(self, parameters: Tensors, grads: Tensors, slots: dict[str, Tensors], coefficients: Tensor) -> None:
        """Takes one step in place, given the coefficients ``[C, R]`` of that step."""


@dataclass(frozen=True)
class SGD(Update):
    """``torch.optim.SGD``.

    Args:
        momentum: Momentum for runs that bring no table of their own.
        dampening: Dampening for momentum, not applied at the first step.
        weight_decay: L2 penalty.
        nesterov: Whether to use Nesterov's momentum.
        sign: 1 to minimize, -1 to maximize.
    """

    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool
    sign: int

    def slots(self, parameters: Tensors) -> dict[str, Tensors]:
        """Returns the momentum buffers, zero."""
        return {"buffer": {name: torch.zeros_like(p) for name, p in parameters.items()}}

    def coefficients(self, rates: Tensor, momenta: Tensor, first: int) -> Tensor:
        """Returns the learning rate, the momentum and the share of the gradient that enters the buffer."""
        steps = torch.arange(first, first + len(rates), device=rates.device)
        share = torch.where(steps == 0, 1.0, 1.0 - self.dampening).to(rates.dtype)
        # Without momentum torch keeps no buffer, so there is nothing to dampen.
        shares = torch.where(momenta == 0, 1.0, share[:, None].expand_as(rates))
        return torch.stack([rates, momenta, shares], dim=1)

    def update_(self, parameters: Tensors, grads: Tensors, slots: dict[str, Tensors], coefficients: Tensor) -> None:
        """Takes one step in place."""
        each = coefficients.unbind()
        for name, parameter in parameters.items():
            rate, momentum, share = (_per_run(coefficient, parameter) for coefficient in each)
            grad = _signed_decayed(grads[name], parameter, self.sign, self.weight_decay)
            buffer = slots["buffer"][name]
            buffer.mul_(momentum).add_(grad * share if self.dampening else grad)
            step = torch.addcmul(grad, momentum, buffer) if self.nesterov else buffer
            parameter.addcmul_(rate, step, value=-1)


@dataclass(frozen=True)
class Adam(Update):
    """``torch.optim.Adam`` and ``torch.optim.AdamW``.

    Args:
        momentum: beta1, for runs that bring no table of their own.
        beta2: Decay of the running mean of squared gradients.
        eps: Added to the denominator.
        weight_decay: L2 penalty, or decoupled weight decay.
        decoupled: Whether weight decay is decoupled from the gradient, which makes it AdamW.
        amsgrad: Whether the denominator keeps its maximum.
        sign: 1 to minimize, -1 to maximize.
    """

    momentum: float
    beta2: float
    eps: float
    weight_decay: float
    decoupled: bool
    amsgrad: bool
    sign: int

    def slots(self, parameters: Tensors) -> dict[str, Tensors]:
        """Returns the running means, zero."""
        names = ["mean", "square", *(["largest"] if self.amsgrad else [])]
        return {slot: {name: torch.zeros_like(p) for name, p in parameters.items()} for slot in names}

    def coefficients(self, rates: Tensor, momenta: Tensor, first: int) -> Tensor:
        """Returns the step size, 1 - beta1, the root of the second bias correction, and the decay of the weights."""
        steps = torch.arange(first + 1, first + 1 + len(rates), dtype=rates.dtype, device=rates.device)[:, None]
        root = (1 - self.beta2**steps).sqrt().expand_as(rates)
        return torch.stack([rates / (1 - momenta**steps), 1 - momenta, root, 1 - rates * self.weight_decay], dim=1)

    def update_(self, parameters: Tensors, grads: Tensors, slots: dict[str, Tensors], coefficients: Tensor) -> None:
        """Takes one step in place."""
        each = coefficients.unbind()
        for name, parameter in parameters.items():
            size, toward, root, decay = (_per_run(coefficient, parameter) for coefficient in each)
            grad = _signed_decayed(grads[name], parameter, self.sign, 0.0 if self.decoupled else self.weight_decay)
            if self.decoupled and self.weight_decay:
                parameter.mul_(decay)
            mean, square = slots["mean"][name], slots["square"][name]
            mean.lerp_(grad, toward.expand_as(mean))
            square.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
            if self.amsgrad:
                square = slots["largest"][name].copy_(torch.maximum(slots["largest"][name], square))
            parameter.addcmul_(size, mean / (square.sqrt() / root + self.eps), value=-1)


def vectorized_update(optimizer: torch.optim.Optimizer) -> Update:
    """Returns the vectorised form of an optimizer, with its settings; its learning rate is not among them.

    Raises:
        NotVectorizable: When it is not SGD, Adam or AdamW, or its parameter groups differ in their settings.
    """
    kind = type(optimizer)
    if kind not in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW):
        raise NotVectorizable(f"the optimizer {kind.__name__} is not SGD, Adam or AdamW")
    settings, *others = ({k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups)
    if any(other != settings for other in others):
        raise NotVectorizable("the optimizer's parameter groups differ in their settings")
    sign = -1 if settings["maximize"] else 1
    if kind is torch.optim.SGD:
        momentum, decay = get_value(settings, "momentum"), get_value(settings, "weight_decay")
        return SGD(momentum, settings["dampening"], decay, settings["nesterov"], sign=sign)
    beta1, beta2 = betas_of(settings)
    return Adam(
        beta1,
        beta2,
        settings["eps"],
        get_value(settings, "weight_decay"),
        decoupled=kind is torch.optim.AdamW or bool(settings.get("decoupled_weight_decay")),
        amsgrad=settings["amsgrad"],
        sign=sign,
    )


def _per_run(coefficient: Tensor, parameter: Tensor) -> Tensor:
    return coefficient.view(-1, *[1] * (parameter.dim() - 1))


def _signed_decayed(grad: Tensor, parameter: Tensor, sign: int, weight_decay: float) -> Any:
    grad = grad if sign == 1 else -grad
    return grad.add(parameter, alpha=weight_decay) if weight_decay else grad

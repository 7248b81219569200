"""torch's optimizers for many runs at once: parameters ``[R, ...]``, each run with values of its own in every group."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lit_lrsched.comparison.engine.metrics import Tensors
from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.param_groups import betas_of, get_value
from lit_lrsched.optim.torch_internals import steps_in_its_own_way


class Values(NamedTuple):
    """What runs are set to at each of T steps, float64: ``[T, R]`` for a param group, ``[T, R, groups]`` for all.

    Args:
        rates: Learning rates.
        momenta: Momenta; of Adam and its like the first beta.
        decays: Weight decays.
    """

    rates: Tensor
    momenta: Tensor
    decays: Tensor


@dataclass(frozen=True)
class Update(ABC):
    """One step of an optimizer on the parameters of one param group, for all runs at once.

    What changes from step to step and from run to run is computed beforehand in float64, as torch's optimizers
    compute it in Python, and enters the step as coefficients ``[R]``.

    Args:
        momentum: What a momentum table drives, for runs that bring none: ``momentum``, or the first of the ``betas``.
        weight_decay: Likewise.
        decays: Whether any run has weight decay.
        decoupled: Whether weight decay shrinks the weights, as in AdamW, rather than being added to the gradient.
        sign: 1 to minimize, -1 to maximize.
    """

    momentum: float
    weight_decay: float
    decays: bool
    decoupled: bool
    sign: int

    @abstractmethod
    def slots(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns what the optimizer remembers for a parameter ``[R, ...]``, before the first step."""

    @abstractmethod
    def own_coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns the coefficients of T steps besides that of weight decay, ``[T, R]`` each: see `coefficients`."""

    @abstractmethod
    def step_(self, parameter: Tensor, grad: Tensor, slots: dict[str, Tensor], *coefficients: Tensor) -> None:
        """Takes one step in place, given the coefficients of that step, ``[R, 1, ...]`` each."""

    def coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns the coefficients of T steps, float64 ``[T, R]`` each.

        Args:
            values: What the group is set to.
            first: 0-based count of the steps taken before these.
        """
        own = self.own_coefficients(values, first)
        if not self.decays:
            return own
        return [1 - values.rates * values.decays if self.decoupled else values.decays, *own]

    def update_(
        self,
        parameters: Tensors,
        grads: Tensors,
        slots: dict[str, Tensors],
        coefficients: Mapping[int, Sequence[Tensor]],
    ) -> None:
        """Takes one step of some parameters in place.

        Args:
            parameters: Each ``[R, ...]``.
            grads: Likewise.
            slots: What the optimizer remembers.
            coefficients: Those of that step, ``[R, 1, ...]`` each, by a parameter's number of dimensions.
        """
        for name, parameter in parameters.items():
            own = coefficients[parameter.dim()]
            grad = grads[name] if self.sign == 1 else -grads[name]
            if self.decays:
                decay, *own = own
                if self.decoupled:
                    parameter.mul_(decay)
                else:
                    grad = torch.addcmul(grad, parameter, decay)
            self.step_(parameter, grad, slots[name], *own)


@dataclass(frozen=True)
class SGD(Update):
    """``torch.optim.SGD``.

    Args:
        dampening: Dampening for momentum, not applied at the first step.
        nesterov: Whether to use Nesterov's momentum.
    """

    dampening: float
    nesterov: bool

    def slots(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the momentum buffer, zero."""
        return {"buffer": torch.zeros_like(parameter)}

    def own_coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns the learning rate, the momentum and the share of the gradient that enters the buffer."""
        rates, momenta, _ = values
        steps = torch.arange(first, first + len(rates), device=rates.device)
        share = torch.where(steps == 0, 1.0, 1.0 - self.dampening).to(rates.dtype)
        # Without momentum torch keeps no buffer, so there is nothing to dampen.
        return [rates, momenta, torch.where(momenta == 0, 1.0, share[:, None].expand_as(rates))]

    def step_(self, parameter: Tensor, grad: Tensor, slots: dict[str, Tensor], *coefficients: Tensor) -> None:
        """Takes one step in place."""
        rate, momentum, share = coefficients
        buffer = slots["buffer"]
        torch.addcmul(grad * share if self.dampening else grad, buffer, momentum, out=buffer)
        step = torch.addcmul(grad, momentum, buffer) if self.nesterov else buffer
        parameter.addcmul_(rate, step, value=-1)


@dataclass(frozen=True)
class Adam(Update):
    """``torch.optim.Adam`` and ``torch.optim.AdamW``.

    Args:
        beta2: Decay of the running mean of squared gradients.
        eps: Added to the denominator.
        amsgrad: Whether the denominator keeps its maximum.
    """

    beta2: float
    eps: float
    amsgrad: bool

    def slots(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the running means, zero."""
        names = ["mean", "square", *(["largest"] if self.amsgrad else [])]
        return {name: torch.zeros_like(parameter) for name in names}

    def own_coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns the step size, 1 - beta1, and the root of the second bias correction."""
        rates, momenta, _ = values
        steps = _steps_after(rates, first)
        root = (1 - self.beta2**steps).sqrt().expand_as(rates)
        return [rates / (1 - momenta**steps), 1 - momenta, root]

    def step_(self, parameter: Tensor, grad: Tensor, slots: dict[str, Tensor], *coefficients: Tensor) -> None:
        """Takes one step in place."""
        size, toward, root = coefficients
        mean = slots["mean"].lerp_(grad, toward.expand_as(grad))
        square = slots["square"].mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        if self.amsgrad:
            square = slots["largest"].copy_(torch.maximum(slots["largest"], square))
        parameter.addcmul_(size, mean / (square.sqrt() / root + self.eps), value=-1)


@dataclass(frozen=True)
class NAdam(Update):
    """``torch.optim.NAdam``.

    Args:
        beta2: Decay of the running mean of squared gradients.
        eps: Added to the denominator.
        momentum_decay: How fast Nesterov's momentum warms up.
    """

    beta2: float
    eps: float
    momentum_decay: float

    def slots(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the running means, zero, and the product of the momenta so far, 1."""
        product = parameter.new_ones(len(parameter), *[1] * (parameter.dim() - 1))
        return {"mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter), "product": product}

    def own_coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns both step sizes, the momenta of this step and the next, 1 - beta1, and the second bias correction."""
        rates, momenta, _ = values
        steps = _steps_after(rates, first)
        now, after = (momenta * (1 - 0.5 * 0.96 ** (step * self.momentum_decay)) for step in (steps, steps + 1))
        correction = (1 - self.beta2**steps).expand_as(rates)
        return [rates * (1 - now), rates * after, now, after, 1 - momenta, correction]

    def step_(self, parameter: Tensor, grad: Tensor, slots: dict[str, Tensor], *coefficients: Tensor) -> None:
        """Takes one step in place."""
        of_grad, of_mean, now, after, toward, correction = coefficients
        product = slots["product"].mul_(now)
        mean = slots["mean"].lerp_(grad, toward.expand_as(grad))
        square = slots["square"].mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        divisor = (square / correction).sqrt() + self.eps
        parameter.addcmul_(of_grad / (1 - product), grad / divisor, value=-1)
        parameter.addcmul_(of_mean / (1 - product * after), mean / divisor, value=-1)


@dataclass(frozen=True)
class RMSprop(Update):
    """``torch.optim.RMSprop``.

    Args:
        alpha: Decay of the running mean of squared gradients.
        eps: Added to the denominator.
        centered: Whether the denominator is the deviation of the gradient, rather than its size.
    """

    alpha: float
    eps: float
    centered: bool

    def slots(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the momentum buffer and the running means, zero."""
        names = ["buffer", "square", *(["mean"] if self.centered else [])]
        return {name: torch.zeros_like(parameter) for name in names}

    def own_coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns the learning rate and the momentum."""
        return [values.rates, values.momenta]

    def step_(self, parameter: Tensor, grad: Tensor, slots: dict[str, Tensor], *coefficients: Tensor) -> None:
        """Takes one step in place."""
        rate, momentum = coefficients
        square = slots["square"].mul_(self.alpha).addcmul_(grad, grad, value=1 - self.alpha)
        if self.centered:
            mean = slots["mean"].lerp_(grad, 1 - self.alpha)
            square = square.addcmul(mean, mean, value=-1)
        buffer = slots["buffer"].mul_(momentum).addcdiv_(grad, square.sqrt() + self.eps)
        parameter.addcmul_(rate, buffer, value=-1)


@dataclass(frozen=True)
class Adagrad(Update):
    """``torch.optim.Adagrad``.

    Args:
        eps: Added to the denominator.
        lr_decay: How much the learning rate falls with every step.
        initial_accumulator_value: What the sum of squared gradients starts from.
    """

    eps: float
    lr_decay: float
    initial_accumulator_value: float

    def slots(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the sum of squared gradients."""
        return {"sum": torch.full_like(parameter, self.initial_accumulator_value)}

    def own_coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns the decayed learning rate."""
        return [values.rates / (1 + (_steps_after(values.rates, first) - 1) * self.lr_decay)]

    def step_(self, parameter: Tensor, grad: Tensor, slots: dict[str, Tensor], *coefficients: Tensor) -> None:
        """Takes one step in place."""
        (rate,) = coefficients
        total = slots["sum"].addcmul_(grad, grad)
        parameter.addcmul_(rate, grad / (total.sqrt() + self.eps), value=-1)


@dataclass(frozen=True)
class Muon(Update):
    """``torch.optim.Muon``, for parameters of two dimensions.

    It rounds to bfloat16 as torch does, so that the last place of a gradient, which another order of sums changes, may
    become 2^-8 of a step.

    Args:
        nesterov: Whether to use Nesterov's momentum.
        ns_coefficients: The three coefficients of the Newton-Schulz iteration.
        ns_steps: How many iterations make the update orthogonal.
        eps: The smallest norm that it is divided by.
        adjust_lr_fn: How the rate follows the shape: ``"original"``, ``"match_rms_adamw"``, or None for the former.
    """

    nesterov: bool
    ns_coefficients: tuple[float, float, float]
    ns_steps: int
    eps: float
    adjust_lr_fn: str | None

    def slots(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the momentum buffer, zero."""
        return {"buffer": torch.zeros_like(parameter)}

    def own_coefficients(self, values: Values, first: int) -> list[Tensor]:
        """Returns the learning rate and the momentum."""
        return [values.rates, values.momenta]

    def step_(self, parameter: Tensor, grad: Tensor, slots: dict[str, Tensor], *coefficients: Tensor) -> None:
        """Takes one step in place."""
        rate, momentum = coefficients
        buffer = slots["buffer"].lerp_(grad, (1 - momentum).expand_as(grad))
        step = grad.lerp(buffer, momentum.expand_as(grad)) if self.nesterov else buffer
        step = self._orthogonal(step).to(parameter.dtype)
        parameter.addcmul_(rate, step, value=-self._adjusted(*parameter.shape[1:]))

    def _orthogonal(self, matrices: Tensor) -> Tensor:
        """Returns matrices ``[R, rows, columns]`` with singular values of about 1: in bfloat16, as torch does."""
        a, b, c = self.ns_coefficients
        tall = matrices.shape[1] > matrices.shape[2]
        found = matrices.bfloat16()
        found = found.mT if tall else found
        found = found / torch.linalg.vector_norm(found, dim=(1, 2), keepdim=True).clamp(min=self.eps)
        for _ in range(self.ns_steps):
            gram = found @ found.mT
            found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
        return found.mT if tall else found

    def _adjusted(self, rows: int, columns: int) -> float:
        if self.adjust_lr_fn == "match_rms_adamw":
            return 0.2 * math.sqrt(max(rows, columns))
        return math.sqrt(max(1.0, rows / columns))


class GroupedUpdate:
    """One step of an optimizer with param groups, for all runs at once.

    Args:
        groups: Each group's update, and the numbers of dimensions of its parameters ``[R, ...]``, by name.
    """

    def __init__(self, groups: Sequence[tuple[Update, Mapping[str, int]]]) -> None:
        self.updates = [update for update, _ in groups]
        self.momenta = [update.momentum for update in self.updates]
        self.weight_decays = [update.weight_decay for update in self.updates]
        self._names = [list(parameters) for _, parameters in groups]
        self._dims = [sorted({*parameters.values()}) for _, parameters in groups]
        self._owner = {name: update for update, names in groups for name in names}
        still = Values(*[torch.zeros(1, 1, dtype=torch.float64)] * 3)
        self._widths = [len(update.coefficients(still, 0)) for update in self.updates]

    def check_momenta(self, given: Iterable[Any]) -> None:
        """Refuses momenta that are 0 at some steps alone, where torch neither uses its buffer nor changes it.

        Args:
            given: What the runs bring: ``[T, groups]``, or what stands for it; None for the optimizer's own.

        Raises:
            NotVectorizable: When there are such.
        """
        if not any(isinstance(update, (SGD, RMSprop)) for update in self.updates):
            return
        for table in {id(one): np.atleast_1d(one) for one in given if one is not None}.values():
            is_zero = table == 0
            if (is_zero.any(axis=0) & ~is_zero.all(axis=0)).any():
                raise NotVectorizable("a momentum is 0 at some steps and not at others")

    def slots(self, parameters: Tensors) -> dict[str, Tensors]:
        """Returns what the optimizer remembers for each parameter, before the first step."""
        return {name: self._owner[name].slots(parameter) for name, parameter in parameters.items()}

    def coefficients(self, values: Values, first: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, ...]]:
        """Yields the coefficients of each of T steps, as :meth:`update_` takes them: ``[R, 1, ...]`` each.

        Args:
            values: What the groups are set to, ``[T, R, groups]``.
            first: 0-based count of the steps taken before these.
            dtype: What they are computed with.
        """
        each: list[Sequence[Tensor]] = []
        groups = zip(*(table.unbind(-1) for table in values), strict=True)
        for update, dims, group in zip(self.updates, self._dims, groups, strict=True):
            own = [table.to(dtype) for table in update.coefficients(Values(*group), first)]
            each += [table.view(*table.shape, *[1] * (dim - 1)).unbind() for dim in dims for table in own]
        return zip(*each, strict=True)

    def update_(
        self, parameters: Tensors, grads: Tensors, slots: dict[str, Tensors], coefficients: Iterable[Tensor]
    ) -> None:
        """Takes one step in place, given the coefficients of that step."""
        given = iter(coefficients)
        for update, names, dims, width in zip(self.updates, self._names, self._dims, self._widths, strict=True):
            own = {dim: [next(given) for _ in range(width)] for dim in dims}
            update.update_({name: parameters[name] for name in names if name in parameters}, grads, slots, own)


def vectorized_update(
    optimizer: torch.optim.Optimizer, names: Mapping[Any, str], weight_decays: Iterable[Any]
) -> GroupedUpdate:
    """Returns the vectorised form of an optimizer, with the settings of its param groups.

    Args:
        optimizer: The optimizer; its learning rates are not used.
        names: The name of every parameter.
        weight_decays: What the runs bring: ``[T, groups]``, or what stands for it; None for the optimizer's own.

    Raises:
        NotVectorizable: When there is no vectorised form of its class, or more happens at its steps.
    """
    kind = KINDS.get(type(optimizer))
    if kind is None:
        raise NotVectorizable(not_vectorized(type(optimizer)))
    if steps_in_its_own_way(optimizer):
        raise NotVectorizable(HOOKED)
    if kind is not SGD and any(parameter.is_complex() for parameter in names):
        raise NotVectorizable(f"it has complex parameters, and {type(optimizer).__name__} steps in each of their parts")
    decays = _decaying([get_value(group, "weight_decay") for group in optimizer.param_groups], weight_decays)
    groups = []
    for number, group in enumerate(optimizer.param_groups):
        # The fields of each class are called as torch calls its settings.
        known = [field.name for field in fields(kind)]
        settings = {name: group[name] for name in known if name in group}
        if "beta2" in known:
            settings["beta2"] = betas_of(group)[1]
        if "initial_accumulator_value" in settings:  # whatever a group says, torch takes that of the optimizer
            settings["initial_accumulator_value"] = optimizer.defaults["initial_accumulator_value"]
        settings |= {
            "momentum": get_value(group, "momentum"),
            "weight_decay": get_value(group, "weight_decay"),
            "decays": bool(decays[number]),
            "decoupled": type(optimizer) in _DECOUPLED or bool(group.get("decoupled_weight_decay")),
            "sign": -1 if group.get("maximize") else 1,
        }
        dims = {names[parameter]: parameter.dim() + 1 for parameter in group["params"]}
        groups.append((kind(**settings), dims))
    return GroupedUpdate(groups)


def _decaying(own: Sequence[float], given: Iterable[Any]) -> npt.NDArray[np.bool_]:
    """Returns for each param group whether any run has weight decay there."""
    found = np.zeros(len(own), dtype=bool)
    for one in {id(values): values for values in given}.values():  # most runs share theirs
        values = np.asarray(own if one is None else one, dtype=np.float64)
        found |= (values[:, None] if one is not None and values.ndim == 1 else np.atleast_2d(values)).any(axis=0)
    return found


HOOKED = "its optimizer has hooks, or a step, of its own"
"""Why an optimizer at whose steps more happens has no vectorised form."""


def not_vectorized(kind: type[torch.optim.Optimizer]) -> str:
    """Returns in words that an optimizer's class has no vectorised form."""
    return f"the optimizer {kind.__name__} is none of torch's {', '.join(known.__name__ for known in KINDS)}"


#: The vectorised form of each of torch's classes.
KINDS: dict[type[torch.optim.Optimizer], type[Update]] = {
    torch.optim.SGD: SGD,
    torch.optim.Adam: Adam,
    torch.optim.AdamW: Adam,
    torch.optim.NAdam: NAdam,
    torch.optim.RMSprop: RMSprop,
    torch.optim.Adagrad: Adagrad,
}
_DECOUPLED: set[type[torch.optim.Optimizer]] = {torch.optim.AdamW}
if hasattr(torch.optim, "Muon"):  # since torch 2.9
    KINDS[torch.optim.Muon] = Muon
    _DECOUPLED.add(torch.optim.Muon)


def _steps_after(rates: Tensor, first: int) -> Tensor:
    """Returns the number of each step, from 1 on, ``[T, 1]``."""
    return torch.arange(first + 1, first + 1 + len(rates), dtype=rates.dtype, device=rates.device)[:, None]

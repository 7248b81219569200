"""Gradient clipping, as the trainer's ``gradient_clip_val`` and ``gradient_clip_algorithm`` ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Clip:
    """Clips the gradients of many runs at once, each run by itself.

    Args:
        value: The largest norm of all gradients of a run together, or the largest size of any of their numbers.
        algorithm: ``"norm"`` as ``torch.nn.utils.clip_grad_norm_``, ``"value"`` as ``clip_grad_value_``.

    >>> grads = {"weight": torch.tensor([[3.0, 4.0], [0.3, 0.4]])}  # of two runs
    >>> Clip(1.0)(grads)["weight"]
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    >>> Clip(1.0, "value")(grads)["weight"]
    tensor([[1.0000, 1.0000],
            [0.3000, 0.4000]])
    """

    value: float
    algorithm: Literal["norm", "value"] = "norm"

    def __call__(self, grads: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the gradients ``[R, ...]``, clipped."""
        if self.algorithm == "value":
            return {name: grad.clamp(-self.value, self.value) for name, grad in grads.items()}
        norms = torch.stack([torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in grads.values()])
        factor = (self.value / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp(max=1.0)
        return {name: grad * factor.view(-1, *[1] * (grad.dim() - 1)) for name, grad in grads.items()}

    def apply_(self, parameters: Iterable[Tensor]) -> None:
        """Clips the gradients of the parameters of one run, as a trainer does."""
        ways: dict[str, Callable[..., Any]] = {"norm": nn.utils.clip_grad_norm_, "value": nn.utils.clip_grad_value_}
        ways[self.algorithm](parameters, self.value)

    def __str__(self) -> str:
        """Returns it in a few words."""
        return f"gradients are clipped to {'a norm' if self.algorithm == 'norm' else 'values'} of {self.value:g}"

"""How the gradients of batches make an optimizer step, as the trainer's options ask for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.metrics import Tensors


@dataclass(frozen=True)
class Gradients:
    """How the gradients of batches make an optimizer step.

    Args:
        accumulate: Batches whose gradients make one step, each with that share of its loss; an epoch's last batch makes
            one in any case.
        clip: How the gradients of a step are clipped. None: they are not.

    >>> Gradients(accumulate=2).steps_in(5), [Gradients(accumulate=2).make_a_step(index, 5) for index in range(5)]
    (3, [False, True, False, True, True])
    """

    accumulate: int = 1
    clip: Clip | None = None

    def steps_in(self, batches: int) -> int:
        """Returns how many steps an epoch of so many batches has."""
        return math.ceil(batches / self.accumulate)

    def make_a_step(self, index: int, batches: int) -> bool:
        """Returns whether a step comes with the batch of this index, 0-based, in an epoch of so many."""
        return (index + 1) % self.accumulate == 0 or index + 1 == batches

    def sums(self, parameters: Tensors) -> Tensors:
        """Returns what the gradients of batches are added up in, zero; nothing where every batch makes a step."""
        if self.accumulate == 1:
            return {}
        return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}

    def add_(self, grads: Tensors, sums: Tensors) -> None:
        """Adds the gradients of a batch that makes no step."""
        for name, total in sums.items():
            total.add_(grads[name])

    def of_step_(self, grads: Tensors, sums: Tensors) -> Tensors:
        """Returns the gradients of a step, given those of its last batch, and sets the sums to zero."""
        if sums:
            grads = {name: total + grads[name] for name, total in sums.items()}
            for total in sums.values():
                total.zero_()
        return self.clip(grads) if self.clip is not None else grads

    def options(self) -> dict[str, Any]:
        """Returns the same as options of a trainer."""
        options: dict[str, Any] = {} if self.accumulate == 1 else {"accumulate_grad_batches": self.accumulate}
        if self.clip is not None:
            options |= {"gradient_clip_val": self.clip.value, "gradient_clip_algorithm": self.clip.algorithm}
        return options

    def __str__(self) -> str:
        """Returns it in sentences; empty where every batch makes a step as it is."""
        sentences = [f"The gradients of {self.accumulate} batches make a step."] if self.accumulate > 1 else []
        if self.clip is not None:
            sentences.append(f"{str(self.clip).capitalize()}.")
        return " ".join(sentences)


EACH_BATCH = Gradients()
"""Every batch makes a step, with its gradients as they are."""

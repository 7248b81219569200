"""Which batches a run goes through, how their gradients make steps, and at which precision."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Union

import torch

from lit_lrsched.comparison.engine.clipping import Clip
from lit_lrsched.comparison.engine.metrics import Tensors
from lit_lrsched.comparison.engine.recorder import Stage
from lit_lrsched.errors import InputError

FULL = "32-true"
"""The precision of a trainer to which nobody gave one."""


@dataclass(frozen=True)
class Regime:
    """Which batches a run goes through, how their gradients make optimizer steps, and at which precision.

    Args:
        accumulate: Batches whose gradients make one step, each with that share of its loss; an epoch's last batch makes
            one in any case.
        clip: How the gradients of a step are clipped. None: they are not.
        limit_train: Batches of an epoch of training: a number of them, or a share from 0 to 1.
        limit_val: Likewise of a validation.
        limit_test: Likewise of a test.
        precision: The trainer's precision.

    Raises:
        InputError: When nothing is left to train on.

    >>> regime = Regime(accumulate=2, limit_train=0.5)
    >>> regime.batches("train", 10), regime.steps_in(5), [regime.make_a_step(index, 5) for index in range(5)]
    (5, 3, [False, True, False, True, True])
    """

    accumulate: int = 1
    clip: Clip | None = None
    limit_train: Union[int, float] = 1.0
    limit_val: Union[int, float] = 1.0
    limit_test: Union[int, float] = 1.0
    precision: str = FULL

    def __post_init__(self) -> None:
        if not self.limit_train:
            raise InputError("limit_train_batches=0 trains nothing: give a number of batches, or a share up to 1.0")

    def limit(self, stage: Stage) -> int | float | None:
        """Returns how many batches a stage has at most, or which share of them; None where it has all."""
        limit = {"train": self.limit_train, "val": self.limit_val, "test": self.limit_test}[stage]
        return None if type(limit) is float and limit == 1 else limit

    def batches(self, stage: Stage, there: int) -> int:
        """Returns how many batches a stage has where so many are there.

        Raises:
            InputError: When a share of them is less than one.
        """
        limit = self.limit(stage)
        if limit is None or isinstance(limit, int):
            return there if limit is None else min(there, limit)
        if there and 0 < limit * there < 1:
            raise InputError(
                f"limit_{stage}_batches={limit} of {there} batches is none: give a larger share, or a number"
            )
        return int(limit * there)

    def steps_in(self, batches: int) -> int:
        """Returns how many optimizer steps so many batches of training make."""
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
        return grads

    def clipped(self, grads: Tensors) -> Tensors:
        """Returns the gradients of a step as the optimizer gets them."""
        return self.clip(grads) if self.clip is not None else grads

    def counts(self) -> dict[str, int | float]:
        """Returns the options of a trainer that say how many batches there are, and how many make a step."""
        limits: list[Stage] = ["train", "val", "test"]
        found = {f"limit_{stage}_batches": limit for stage in limits if (limit := self.limit(stage)) is not None}
        return found if self.accumulate == 1 else {"accumulate_grad_batches": self.accumulate, **found}

    def options(self) -> dict[str, Any]:
        """Returns all of it as options of a trainer."""
        options: dict[str, Any] = dict(self.counts())
        if self.precision != FULL:
            options["precision"] = self.precision
        if self.clip is not None:
            options |= {"gradient_clip_val": self.clip.value, "gradient_clip_algorithm": self.clip.algorithm}
        return options

    def __str__(self) -> str:
        """Returns it in sentences; empty where every batch makes a step as it is."""
        counts = self.counts()
        sentences = []
        if counts.pop("accumulate_grad_batches", None):
            sentences.append(f"The gradients of {self.accumulate} batches make a step.")
        if counts:
            sentences.append(f"In each run {', '.join(f'{name}={value:g}' for name, value in counts.items())}.")
        if self.clip is not None:
            sentences.append(f"{str(self.clip).capitalize()}.")
        if self.precision != FULL:
            sentences.append(f"Precision: {self.precision}.")
        return " ".join(sentences)


PLAIN = Regime()
"""All batches, each of which makes a step with its gradients as they are, at full precision."""

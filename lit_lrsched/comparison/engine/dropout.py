"""Dropout drawn from a hash of the run, the step and the position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class KeyedDropout(TorchFunctionMode):
    """Draws dropout from a hash of the run's key, the step and the position.

    So a run's draws depend on nothing beside it: not on its neighbours, nor on its place among them.
    """

    def __init__(self, key: Tensor) -> None:
        super().__init__()
        self._key = key
        self._calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.dropout:
            return func(*args, **(kwargs or {}))
        return self._dropout(*args, **(kwargs or {}))

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            return input
        self._calls += 1
        place = torch.arange(input.numel(), device=input.device).reshape(input.shape)
        bits = _mixed(place + _mixed(self._key + self._calls))
        # 24 bits are all that a float32 in [0, 1) can hold evenly.
        uniform = (bits & 0xFFFFFF).to(torch.float32) * 2.0**-24
        return torch.where(uniform >= p, input, 0.0) * (0.0 if p == 1 else 1 / (1 - p))


def _mixed(z: Tensor) -> Tensor:
    """The finalizer of SplitMix64: every bit of the input flips half of the bits of the output."""
    z = (z ^ _shifted(z, 30)) * -0x40A7B892E31B1A47
    z = (z ^ _shifted(z, 27)) * -0x6B2FB644ECCEEE15
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts the sign in, the hash wants zeros

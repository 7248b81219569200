"""What a module holds beside the numbers in its parameters and buffers: in one program all runs and steps share it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torchmetrics import Metric

from lit_lrsched.comparison.engine.recorder import NotVectorizable
from lit_lrsched.optim.torch_internals import COMPILED_NUMBER

_SETTINGS = (bool, int, float, str)
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device, torch.Size)
# What every module has, and what Lightning uses to log a graph: often drawn anew for every module.
_LEFT_OUT = frozenset([*vars(nn.Module()), "_example_input_array", COMPILED_NUMBER])


def held(module: LightningModule) -> dict[str, Any]:
    """Returns what a freshly built module holds, by name: its attributes, and how its parameters and buffers look.

    Of objects that are neither numbers, text, arrays nor collections of these it has the type alone.

    Args:
        module: The module.

    Raises:
        NotVectorizable: When an attribute shows the memory of a parameter or buffer, which would change with it, or a
            parameter is not made yet.
    """
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    for name, tensor in tensors.items():
        if is_lazy(tensor):
            raise NotVectorizable(f"{name} is made by the first batch (of a lazy layer)")
    found: dict[str, Any] = {
        name: (tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in tensors.items()
    }
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors.values() if tensor.numel()}
    for path, part in module.named_modules():
        if isinstance(part, Metric):
            continue
        for name, value in vars(part).items():
            if name in _LEFT_OUT:
                continue
            place = f"{path}.{name}" if path else name
            is_fixed = isinstance(value, Tensor) and not value.requires_grad
            if is_fixed and value.untyped_storage().data_ptr() in memory:
                raise NotVectorizable(f"self.{place} shows the memory of a parameter or buffer")
            found[place] = _plain(value)
    return found


def settings(module: LightningModule) -> dict[str, Any]:
    """Returns what decides how the layers of a module compute, by name: numbers and text in attributes, and modes."""
    found: dict[str, Any] = {}
    for path, part in module.named_modules():
        if not isinstance(part, Metric):
            own = {name: value for name, value in vars(part).items() if type(value) in _SETTINGS and name[0] != "_"}
            found |= {f"{path}.{name}" if path else name: repr(value) for name, value in own.items()}
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor) and value.requires_grad:
        return value.shape  # a parameter, or computed from some in every step
    if isinstance(value, Tensor):
        return _digest(value.detach().cpu().reshape(-1).view(torch.uint8).numpy()), value.shape, value.dtype
    if isinstance(value, np.ndarray):
        return _digest(value), value.shape, value.dtype
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return repr(value) if isinstance(value, _PLAIN) else type(value).__qualname__


def _digest(array: Any) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()

"""What a module holds beside the numbers in its parameters and buffers: in one program all runs and steps share it."""

from __future__ import annotations

import hashlib
import inspect
import pickle
import random
import sys
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from io import IOBase
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torchmetrics import Metric, MetricCollection

from lit_lrsched.comparison.engine.counts import Symbol
from lit_lrsched.comparison.engine.recorder import NotVectorizable, Recorder
from lit_lrsched.comparison.engine.torchmetrics_internals import BOOKKEEPING, defaults_of
from lit_lrsched.optim.torch_internals import COMPILED_NUMBER, FLAT_WEIGHTS, forward_hooks, version_of
from lit_lrsched.trainer.lightning_internals import FIRST_HYPERPARAMETERS
from lit_lrsched.trainer.lightning_package import LightningModule

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, torch.dtype, torch.device, torch.Size)
# What every module has, the input that Lightning logs a graph with among it: often drawn anew for every module.
_LEFT_OUT = frozenset(
    [
        *(*vars(LightningModule()), *Recorder.__annotations__),
        *(COMPILED_NUMBER, FLAT_WEIGHTS, FIRST_HYPERPARAMETERS),
    ]
)
# Libraries whose objects change for reasons of their own, as loggers do.
_OTHERS = frozenset([*sys.stdlib_module_names, "torch", "lightning", "pytorch_lightning"]) - {"argparse", "types"}
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
#: What holds more than so many parts is told by their number, and an array of more bytes by its shape.
MANY, MANY_BYTES = 1_000, 1 << 20


def held(module: LightningModule) -> dict[str, Any]:
    """Returns what a freshly built module holds, by name: its attributes, and how its parameters and buffers look.

    Of objects of other libraries, arrays and tensors aside, it has the type alone.

    Args:
        module: The module.

    Raises:
        NotVectorizable: When an attribute shows the memory of a parameter or buffer, which would change with it, or a
            parameter is not made yet.
    """
    tensors = tensors_of(module)
    for name, tensor in tensors.items():
        if is_lazy(tensor):
            raise NotVectorizable(f"{name} is made by the first batch (of a lazy layer)")
    found: dict[str, Any] = {
        name: (tensor.shape, tensor.dtype, tensor.requires_grad) for name, tensor in tensors.items()
    }
    seen = {id(part) for part in module.modules()}
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors.values() if tensor.numel()}
    for path, part in module.named_modules():
        if isinstance(part, Metric):
            continue
        originals = {name for name, _ in part.named_parameters(recurse=False)}
        for name, value in own_attributes(part).items():
            if f"{name}_orig" in originals:  # from which it is computed before every call, as by spectral_norm
                continue
            place = f"{path}.{name}" if path else name
            is_fixed = isinstance(value, Tensor) and value.layout is torch.strided and not value.requires_grad
            if is_fixed and value.untyped_storage().data_ptr() in memory:
                raise NotVectorizable(f"self.{place} shows the memory of a parameter or buffer")
            found[place] = _plain(value, seen)
    return found


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Returns the parameters and buffers of a module, by name."""
    return dict([*module.named_parameters(), *module.named_buffers()])


def copies_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns copies of tensors, by name."""
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def own_attributes(part: nn.Module) -> dict[str, Any]:
    """Returns the attributes that a module has beside those of every module."""
    return {name: value for name, value in vars(part).items() if name not in _LEFT_OUT}


def attributes_of_layers(module: LightningModule) -> dict[str, dict[str, Any]]:
    """Returns the attributes of the layers of a module, metrics left out, by the layer's name."""
    layers = [(path, part) for path, part in module.named_modules() if path]
    return {path: own_attributes(part) for path, part in layers if not isinstance(part, (Metric, MetricCollection))}


def settings(module: LightningModule, but: Collection[str], lists: Collection[int], of_layers: bool) -> dict[str, Any]:
    """Returns what decides how the layers of a module compute, by name: modes, and what its attributes hold.

    Args:
        module: The module.
        but: Names of attributes of its own that are left out.
        lists: Ids of lists that are left out.
        of_layers: Whether tensors of layers count, but for those that are computed anew from parameters, as
            ``weight_norm`` does.
    """
    found: dict[str, Any] = {}
    seen = {*map(id, module.modules()), *lists}
    for path, part in module.named_modules():
        attributes = own_attributes(part)
        if isinstance(part, (Metric, MetricCollection)):
            hidden = {name for name in attributes if name in BOOKKEEPING or callable(attributes[name])}
            attributes = {name: attributes[name] for name in attributes.keys() - hidden}
        if isinstance(part, Metric):
            attributes = {name: attributes[name] for name in attributes.keys() - defaults_of(part).keys()}
        found[f"{path}.training" if path else "training"] = part.training
        if path:
            found[path] = id(part)
        if hooks := forward_hooks(part):
            found[f"{path} (its hooks)".lstrip()] = [*map(id, hooks)]
        for name, value in attributes.items():
            is_layers = isinstance(value, Tensor) and not isinstance(part, Metric)
            is_computed = is_layers and (value.requires_grad or not of_layers)
            left_out = is_computed if path else name in but
            if not left_out and (within := contents(value, seen)) is not None:
                found[f"{path}.{name}" if path else name] = within
    return found


def contents(value: Any, seen: set[int]) -> Any:
    """Returns the numbers and text in a value, however deep, and which tensors; None where there is neither.

    Args:
        value: The value.
        seen: Ids of objects that were looked into before, and are not again; it grows.
    """
    if isinstance(value, _PLAIN) and not isinstance(value, Symbol):
        return repr(value)
    if isinstance(value, Tensor):
        return id(value), version_of(value)
    if isinstance(value, np.ndarray):
        return _digest(value) if value.nbytes <= MANY_BYTES else (id(value), value.shape)
    if isinstance(value, _GENERATORS):
        return pickle.dumps(value)
    if id(value) in seen or isinstance(value, type):
        return None
    seen.add(id(value))
    is_many = isinstance(value, (Mapping, list, tuple, set, frozenset, deque))
    within = value if is_many else inside_of(value)  # made for this moment: its id will be that of others
    if len(within) > MANY:
        return len(within)
    if isinstance(within, Mapping):
        # A list that is left out may be there or not: in a `defaultdict`, once something was appended to it.
        parts = [(key, part) for key, part in items_of(within) if not (isinstance(part, list) and id(part) in seen)]
        return {str(key): contents(part, seen) for key, part in parts} if is_many or within else None
    return sorted(map(repr, within)) if isinstance(within, (set, frozenset)) else [contents(p, seen) for p in within]


def is_filled(before: Any, after: Any) -> bool:
    """Returns whether two ``contents`` differ in nothing but text where there was None, as a configuration notes it."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return all(value == after[name] or is_filled(value, after[name]) for name, value in before.items())
    return before == repr(None) and isinstance(after, str) and after[:1] in ("'", '"')


def inside_of(value: Any) -> Mapping[str, Any]:
    """Returns what an object holds: attributes and slots, if it is no library's; of layers and metrics, tensors."""
    if isinstance(value, Metric):
        return {name: getattr(value, name) for name in defaults_of(value)}
    if isinstance(value, nn.Module):
        return tensors_of(value)
    if type(value).__module__.partition(".")[0] in _OTHERS:
        return {}
    members = {name: member for kind in type(value).__mro__ for name, member in vars(kind).items()}
    slots = [name for name, member in members.items() if inspect.ismemberdescriptor(member) and name[:2] != "__"]
    slots = [name for name in slots if hasattr(value, name)]  # as long as it was set
    return {**{name: getattr(value, name) for name in slots}, **getattr(value, "__dict__", {})}


def _plain(value: Any, seen: set[int]) -> Any:
    if isinstance(value, Tensor) and value.requires_grad:
        return value.shape  # a parameter, or computed from some in every step
    if isinstance(value, Tensor) and value.layout is not torch.strided:
        raise NotVectorizable("it holds a sparse tensor")
    if isinstance(value, Tensor):
        return _digest(value.detach().cpu().reshape(-1).view(torch.uint8).numpy()), value.shape, value.dtype
    if isinstance(value, np.ndarray):
        return _digest(value), value.shape, value.dtype
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    if isinstance(value, Iterator) and not isinstance(value, IOBase):
        raise NotVectorizable("it holds an iterator, which a step may move on unseen")
    kind = type(value).__qualname__
    if id(value) in seen or isinstance(value, type):
        return kind
    seen.add(id(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(part, seen) for key, part in items_of(value)}
    if isinstance(value, (list, tuple)):
        return [_plain(part, seen) for part in value]
    within = inside_of(value)
    if isinstance(value, nn.Module):  # a layer that is none of the module's, whose weights no run trains
        within = {name: part.detach() if isinstance(part, Tensor) else part for name, part in within.items()}
    return kind, {name: _plain(part, seen) for name, part in within.items()}


def items_of(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    """Returns what a mapping holds; nothing where it does not tell."""
    try:
        return list(mapping.items())
    except Exception:  # as a configuration raises in which a value is missing
        return []


def _digest(array: Any) -> bytes:
    return hashlib.sha256(array.tobytes()).digest()

"""Functions of single numbers that round alike wherever a number stands among the others.

torch's loops over these take 32 numbers at a time and treat the rest one by one, where some functions round otherwise.
A number of runs that is a multiple of 16 leaves a rest of 16 or none: none where such a function is given everything
twice. So no run's result depends on how many others run beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_lrsched.optim.torch_internals import schema_of

aten = torch.ops.aten

#: The number of runs is a multiple of this.
LANES = 16

#: The functions whose rest is rounded otherwise.
UNEVEN = (
    *("sigmoid", "silu", "silu_backward", "softplus", "softplus_backward", "mish", "mish_backward"),
    *("pow", "exp2", "sinh", "cosh", "atanh", "atan2", "logaddexp", "logaddexp2", "ldexp", "igamma"),
)


def _even(operator: Any) -> Callable[..., Any]:
    """Returns the form of an operator that leaves no rest; ``NotImplemented`` where the operator leaves none."""

    def form(*args: Any, **kwargs: Any) -> Any:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        shape = np.broadcast_shapes(*[tensor.shape for tensor in tensors])
        tensors = [tensor.expand(shape) for tensor in tensors]
        rest = tensors[0].numel() % (2 * LANES)
        in_one_loop = all(tensor.is_contiguous() for tensor in tensors)
        if rest not in (0, LANES) or _is_square(args) or (rest == 0 and in_one_loop):
            return NotImplemented
        each = iter([torch.cat([tensor, tensor]) if rest else tensor.contiguous() for tensor in tensors])
        out = operator(*[next(each) if isinstance(arg, Tensor) else arg for arg in args], **kwargs)
        return torch.empty_like(tensors[0], dtype=out.dtype).copy_(out[: len(tensors[0])])

    return form


def _is_square(args: tuple[Any, ...]) -> bool:
    return len(args) == 2 and not isinstance(args[1], Tensor) and args[1] == 2  # which torch multiplies


def _in_place(packet: Any) -> Callable[..., Any]:
    def form(*args: Any, **kwargs: Any) -> Any:
        return args[0].copy_(packet(*args, **kwargs))

    return form


def _overloads(name: str) -> list[Any]:
    """Returns the operators of a name that take tensors."""
    packet = getattr(aten, name, None)
    found = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    return [operator for operator in found if any(str(a.type) == "Tensor" for a in schema_of(operator).arguments)]


#: By operator, what is done in its place.
EVEN: dict[Any, Callable[..., Any]] = {}
for _name in UNEVEN:
    EVEN |= {operator: _even(operator) for operator in _overloads(_name) if not schema_of(operator).is_mutable}
    EVEN |= {operator: _in_place(getattr(aten, _name)) for operator in _overloads(f"{_name}_")}

"""Random numbers drawn from a hash of the run, the step and the position, in place of the global generator's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lit_lrsched.comparison.engine.recorder import NotVectorizable

aten = torch.ops.aten


class KeyedDraws:
    """Draws what a step draws while it is traced: the same distributions, from each run's own key.

    So a run's draws depend on nothing beside it: not on its neighbours, nor on its place among them.

    Args:
        keys: A key for each run and step, int64 ``[R]``.

    Attributes:
        calls: How often something was drawn.
    """

    def __init__(self, keys: Tensor) -> None:
        self._keys = keys
        self.calls = 0

    def __enter__(self) -> KeyedDraws:
        _DRAWING.append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _DRAWING.pop()

    def bits(self, shape: Sequence[int]) -> Tensor:
        """Returns 64 random bits for each place, int64 of the shape ``[R, ...]``."""
        self.calls += 1
        key = _mixed(self._keys + self.calls)
        place = torch.arange(math.prod(shape[1:]), device=key.device)
        return _mixed(place + key[:, None]).view(shape)


# The draws of the step that is being traced: operators are replaced by functions, which know of no step.
_DRAWING: list[KeyedDraws] = []


def _mixed(z: Tensor) -> Tensor:
    """The finalizer of SplitMix64: every bit of the input flips half of the bits of the output."""
    z = (z ^ _shifted(z, 30)) * -0x40A7B892E31B1A47
    z = (z ^ _shifted(z, 27)) * -0x6B2FB644ECCEEE15
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts the sign in, the hash wants zeros


def _bits(shape: Sequence[int]) -> Tensor:
    if not _DRAWING:
        raise NotVectorizable("it draws random numbers outside its steps")
    return _DRAWING[-1].bits(shape)


def _share(bits: Tensor) -> Tensor:
    # 24 bits are all that a float32 in [0, 1) can hold evenly.
    return (bits & 0xFFFFFF).to(torch.float32) * 2.0**-24


def _uniform(shape: Sequence[int]) -> Tensor:
    return _share(_bits(shape))


def _normal(shape: Sequence[int]) -> Tensor:
    """Two uniform numbers become one normal one (Box and Muller, 1958)."""
    bits = _bits(shape)
    radius = (-2 * (1 - _share(bits)).log()).sqrt()
    return radius * (2 * math.pi * _share(bits >> 24)).cos()


def _exponential(shape: Sequence[int]) -> Tensor:
    return (-(1 - _uniform(shape)).log()).clamp_min(2.0**-25)  # as torch's never 0, which has no logarithm


def _whole(low: int, high: int, shape: Sequence[int]) -> Tensor:
    # Of 62 bits the remainder is even enough: no data set has 2 ** 40 rows.
    return low + (_bits(shape) & ((1 << 62) - 1)) % (high - low)


def _dtype(kwargs: dict[str, Any], otherwise: torch.dtype) -> torch.dtype:
    if kwargs.get("generator") is not None:
        raise NotVectorizable("a step draws from a generator of its own")
    return kwargs.get("dtype") or otherwise


def _made(drawn: Callable[[Sequence[int]], Tensor]) -> Callable[..., Tensor]:
    """A form of ``rand(size)``."""

    def form(size: Sequence[int], *_: Any, **kwargs: Any) -> Tensor:
        return drawn(size).to(_dtype(kwargs, torch.get_default_dtype()))

    return form


def _like(drawn: Callable[[Sequence[int]], Tensor]) -> Callable[..., Tensor]:
    """A form of ``rand_like(tensor)``."""

    def form(tensor: Tensor, *_: Any, **kwargs: Any) -> Tensor:
        return drawn(tensor.shape).to(_dtype(kwargs, tensor.dtype))

    return form


def _filled(drawn: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A form of ``tensor.normal_(mean, std)``."""

    def form(tensor: Tensor, *settings: Any, **kwargs: Any) -> Tensor:
        _dtype(kwargs, tensor.dtype)
        kwargs.pop("generator", None)
        return tensor.copy_(drawn(tensor.shape, *settings, **kwargs))

    return form


def _between(shape: Sequence[int], start: float = 0.0, end: float = 1.0) -> Tensor:
    return start + (end - start) * _uniform(shape)


def _scaled(shape: Sequence[int], mean: Any = 0.0, std: Any = 1.0) -> Tensor:
    scaled: Tensor = mean + std * _normal(shape)
    return scaled


def _of_chance(shape: Sequence[int], p: Any = 0.5) -> Tensor:
    chosen: Tensor = _uniform(shape) < p
    return chosen


def _normal_around(mean: Any, std: Any = 1.0, **kwargs: Any) -> Tensor:
    shaped = [part for part in (mean, std) if isinstance(part, Tensor)]
    shape = sum(shaped[1:], start=shaped[0]).shape
    return _scaled(shape, mean, std).to(_dtype(kwargs, shaped[0].dtype))


#: By operator, what is done in its place. torch.func gives each a leading dimension of R runs.
DRAWN: dict[Any, Callable[..., Any]] = {
    aten.rand.default: _made(_uniform),
    aten.randn.default: _made(_normal),
    aten.rand_like.default: _like(_uniform),
    aten.randn_like.default: _like(_normal),
    aten.randint.default: lambda high, size, **kwargs: _whole(0, high, size).to(_dtype(kwargs, torch.int64)),
    aten.randint.low: lambda low, high, size, **kwargs: _whole(low, high, size).to(_dtype(kwargs, torch.int64)),
    aten.randint_like.default: lambda tensor, high, **kwargs: _like(lambda shape: _whole(0, high, shape))(
        tensor, **kwargs
    ),
    aten.randint_like.low_dtype: lambda tensor, low, high, **kwargs: _like(lambda shape: _whole(low, high, shape))(
        tensor, **kwargs
    ),
    aten.bernoulli.default: lambda p, **kwargs: _of_chance(p.shape, p).to(_dtype(kwargs, p.dtype)),
    aten.bernoulli.p: lambda tensor, p, **kwargs: _of_chance(tensor.shape, p).to(_dtype(kwargs, tensor.dtype)),
    aten.bernoulli_.float: _filled(_of_chance),
    aten.bernoulli_.Tensor: _filled(_of_chance),
    aten.uniform_.default: _filled(_between),
    aten.normal_.default: _filled(_scaled),
    aten.exponential_.default: _filled(lambda shape, rate=1.0: _exponential(shape) / rate),
    aten.normal.Tensor_Tensor: _normal_around,
    aten.normal.Tensor_float: _normal_around,
    aten.normal.float_Tensor: _normal_around,
    aten.normal.float_float: lambda mean, std, size, **kwargs: _scaled(size, mean, std).to(
        _dtype(kwargs, torch.get_default_dtype())
    ),
}

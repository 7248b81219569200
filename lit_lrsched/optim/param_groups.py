"""Param groups: their names, and where they keep learning rate, momentum and weight decay.

No other module knows the keys of a param group.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR

from lit_lrsched.errors import InputError
from lit_lrsched.optim.kept_scheduler import kept_by
from lit_lrsched.optim.torch_internals import parts_of

QUANTITIES = ("lr", "momentum", "weight_decay")

# What schedulers note in a param group for themselves: torch's, and ours of what they drive besides the rate.
_NOTES = ("initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "initial_momentum", "initial_weight_decay")


def group_names(optimizer: Optimizer) -> list[str]:
    """Returns what the param groups are called: their ``name`` if no other has it, or ``group0``, ``group1``, ..."""
    numbers = [f"group{index}" for index in range(len(optimizer.param_groups))]
    names = [str(group.get("name") or own) for group, own in zip(optimizer.param_groups, numbers, strict=True)]
    called = [name if names.count(name) == 1 else own for name, own in zip(names, numbers, strict=True)]
    # A name may be the number of another group.
    return called if len(set(called)) == len(called) else numbers


def check_lrs(optimizer: Optimizer) -> None:
    """Checks that each param group has a learning rate, which optimizers that work out their own may lack.

    Raises:
        InputError: When one has none, one that is not finite, or one that no fraction fits into, or the optimizer
            trains at other rates than these.
    """
    if getattr(optimizer, "disable_lr_scheduler", True) is False:  # Ranger21 of pytorch_optimizer
        raise InputError(
            f"{type(optimizer).__name__} has a schedule of its own, by which it trains whatever rate its param groups "
            "are set to: give it disable_lr_scheduler=True"
        )
    if works_out_its_rate(optimizer):
        raise InputError(
            f"{type(optimizer).__name__} works out its learning rate itself (relative_step=True), so there is nothing "
            "to schedule: give it relative_step=False and a rate, like lr=0.001"
        )
    for name, group in zip(group_names(optimizer), optimizer.param_groups, strict=True):
        if group.get("lr") is None:
            raise InputError(
                f"{type(optimizer).__name__} has no lr in its param group {name}, so there is nothing to schedule: "
                "give it one, like lr=0.1"
            )
        if not math.isfinite(lr_of(group)):
            raise InputError(f"the lr of the param group {name} is {lr_of(group)}: give a finite one, like lr=0.1")
        if isinstance(group["lr"], Tensor) and not group["lr"].is_floating_point():
            raise InputError(
                f"{type(optimizer).__name__} keeps the lr of its param group {name} in a tensor of whole numbers: "
                f"no fraction of it fits there, so give it as torch.tensor({lr_of(group)})"
            )


def works_out_its_rate(optimizer: Optimizer) -> bool:
    """Returns whether an optimizer sets its steps by their number, whatever its rate, as Adafactor may."""
    return any(group.get("relative_step") for group in optimizer.param_groups)


def scales_left_out(optimizer: Optimizer) -> str:
    """Returns what to say of param groups with an ``lr_scale`` that is not in their rates; empty of any others.

    timm's param groups for rates that decay by layers have it, and its schedulers multiply rates by it.

    >>> import torch
    >>> weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    >>> groups = [{"params": [weight], "lr_scale": scale} for weight, scale in zip(weights, (0.5, 1.0))]
    >>> scales_left_out(torch.optim.SGD(groups, lr=0.1))
    "the param groups' lr_scale (0.5, 1) is left out, as only timm's schedulers multiply rates by it: make it part ..."
    >>> scales_left_out(torch.optim.SGD([{**group, "lr": 0.1 * group["lr_scale"]} for group in groups]))
    ''
    """
    scales = [float(group.get("lr_scale", 1.0)) for group in optimizer.param_groups]
    bases = [base_lr_of(group) for group in optimizer.param_groups]
    within = all(math.isclose(base * scales[0], bases[0] * scale) for base, scale in zip(bases, scales, strict=True))
    if len(set(scales)) == 1 or within:
        return ""
    shown = ", ".join(dict.fromkeys(f"{scale:.4g}" for scale in scales))
    return (
        f"the param groups' lr_scale ({shown}) is left out, as only timm's schedulers multiply rates by it: make it "
        "part of the rates, group['lr'] *= group.pop('lr_scale')"
    )


def give_own_lrs(optimizer: Optimizer) -> None:
    """Gives each param group a rate of its own: where an optimizer is given one in a tensor, all groups share it."""
    kept: list[Tensor] = []
    for group in optimizer.param_groups:
        if any(group["lr"] is lr for lr in kept):
            group["lr"] = group["lr"].clone()
        if isinstance(group["lr"], Tensor):
            kept.append(group["lr"])


def lr_of(group: Mapping[str, Any]) -> float:
    """Returns the learning rate that a param group is set to.

    >>> lr_of({"lr": 0.1, "initial_lr": 0.3}), base_lr_of({"lr": 0.1, "initial_lr": 0.3}), base_lr_of({"lr": 0.1})
    (0.1, 0.3, 0.1)
    """
    return float(group["lr"])


def copied_lrs(optimizer: Optimizer) -> list[float | Tensor]:
    """Returns the learning rate of each param group; those that are kept in tensors are copied."""
    lrs = [group["lr"] for group in optimizer.param_groups]
    return [lr.clone() if isinstance(lr, Tensor) else lr for lr in lrs]


def base_lr_of(group: Mapping[str, Any]) -> float:
    """Returns what a schedule multiplies: the base rate that a scheduler has noted, or else the learning rate."""
    return float(group.get("initial_lr", group["lr"]))


def set_base(group: dict[str, Any], quantity: str, base: float) -> None:
    """Notes the base of a value, to which it can be set back; schedulers made from now on multiply that of the rate."""
    group[f"initial_{quantity}"] = base


def back_to_bases(group: dict[str, Any]) -> None:
    """Sets a param group to the base values that schedulers have noted, and forgets these.

    >>> group = {"lr": 0.01, "initial_lr": 0.1, "momentum": 0.45, "initial_momentum": 0.9, "weight_decay": 0.02}
    >>> back_to_bases(group)
    >>> group
    {'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.02}
    """
    for quantity in QUANTITIES:
        if (base := group.pop(f"initial_{quantity}", None)) is not None:
            set_value(group, quantity, base)


def forget_base_lr(group: dict[str, Any]) -> None:
    """Removes the base rate that a scheduler has noted in a param group: its rate is the base now."""
    group.pop("initial_lr", None)


def momentum_of(group: Mapping[str, Any]) -> float | None:
    """Returns the momentum of a param group, which is the first beta of Adam and its like; None where it has none.

    >>> momentum_of({"momentum": 0.9}), momentum_of({"betas": (0.95, 0.999)}), momentum_of({"lr": 0.1})
    (0.9, 0.95, None)
    """
    momentum = group["betas"][0] if "betas" in group else group.get("momentum")
    return None if momentum is None else float(momentum)


def betas_of(group: Mapping[str, Any]) -> tuple[float, float]:
    """Returns both betas of a param group of Adam and its like."""
    first, second = group["betas"]
    return float(first), float(second)


def momentum_argument(settings: Mapping[str, Any], momentum: float) -> dict[str, Any]:
    """Returns the argument that sets the momentum of an optimizer's class; none where it has no momentum.

    Args:
        settings: The arguments of the class, its defaults included.
        momentum: The momentum, or first beta.

    >>> momentum_argument({"lr": 0.1, "betas": (0.9, 0.999)}, 0.95)
    {'betas': [0.95, 0.999]}
    """
    if "betas" in settings:
        return {"betas": [momentum, settings["betas"][1]]}
    return {"momentum": momentum} if "momentum" in settings else {}


def base_values_of(group: Mapping[str, Any]) -> dict[str, float]:
    """Returns the base learning rate of a param group, its momentum and its weight decay, where it has them.

    >>> base_values_of({"lr": 0.05, "initial_lr": 0.1, "betas": (0.9, 0.999)})
    {'lr': 0.1, 'momentum': 0.9}
    """
    present = {**group, "momentum": momentum_of(group)}
    found = {quantity: group.get(f"initial_{quantity}", present.get(quantity)) for quantity in QUANTITIES}
    return {quantity: float(value) for quantity, value in found.items() if value is not None}


def settings_of(group: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a param group was given besides its parameters: nothing that a scheduler has noted there.

    >>> settings_of({"params": [], "lr": 0.1, "initial_lr": 0.3, "momentum": 0.9, "name": "head"})
    {'lr': 0.1, 'momentum': 0.9, 'name': 'head'}
    """
    return {key: value for key, value in group.items() if key != "params" and key not in _NOTES}


def get_value(group: Mapping[str, Any], quantity: str) -> float:
    """Returns a param group's ``lr``, ``momentum`` or ``weight_decay``; 0 where it has none."""
    return float((momentum_of(group) if quantity == "momentum" else group.get(quantity)) or 0.0)


def set_value(group: dict[str, Any], quantity: str, value: float) -> None:
    """Sets a param group's ``lr``, ``momentum`` (the first beta of Adam and its like) or ``weight_decay``."""
    if quantity == "momentum" and "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    elif isinstance(group[quantity], Tensor):
        # A compiled or capturable optimizer keeps its rate in a tensor, which must stay the same tensor.
        group[quantity].fill_(value)
    else:
        group[quantity] = value


def decoupled_decay_of(optimizer: Optimizer) -> float | None:
    """Returns the weight decay of the first param group, where a step is ``w <- (1 - lr d) w - lr u``.

    That is how AdamW and its like take it, and SGD without momentum. None where it goes through a momentum or an
    adaptive step, so that no factor of the weights says what it does.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.zeros(1))
    >>> kinds = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)
    >>> [decoupled_decay_of(kind([weight], lr=0.1, weight_decay=0.01)) for kind in kinds]
    [0.01, None, 0.01]
    """
    group = optimizer.param_groups[0]
    decay, kind = get_value(group, "weight_decay"), type(optimizer).__name__
    is_decoupled = group.get("decoupled_weight_decay") or kind in ("AdamW", "Muon")
    is_plain = kind == "SGD" and not momentum_of(group)
    return decay if is_decoupled or is_plain or decay == 0 else None


class GroupValue(NamedTuple):
    """One value of one param group: where it is kept, and the name under which it is logged.

    Args:
        name: ``quantity/group``, or ``quantity/optimizer0/group`` where there are several optimizers.
        quantity: ``"lr"``, ``"momentum"`` or ``"weight_decay"``.
        optimizer: The optimizer's number.
        group_number: The param group's number in the optimizer.
        group: The param group.
        key: The value's key there.
    """

    name: str
    quantity: str
    optimizer: int
    group_number: int
    group: dict[str, Any]
    key: str

    def read(self) -> float:
        """Returns the value."""
        value = self.group[self.key]
        return float(value[0] if self.key == "betas" else value)

    def is_set_to(self, value: float) -> bool:
        """Returns whether it is set to a value: exactly, or up to rounding where a tensor holds it."""
        now, held = self.read(), self.group[self.key]
        if isinstance(held, Tensor) and held.is_floating_point():
            return math.isclose(now, value, rel_tol=max(1e-6, torch.finfo(held.dtype).eps))
        return now == value


def group_values(optimizers: Sequence[Optimizer], quantities: Collection[str] = QUANTITIES) -> list[GroupValue]:
    """Returns the learning rates, momenta and weight decays of optimizers, in this order, or some of these."""
    found = []
    for quantity in (known for known in QUANTITIES if known in quantities):
        for number, optimizer in enumerate(optimizers):
            prefix = f"{quantity}/optimizer{number}" if len(optimizers) > 1 else quantity
            for index, (name, group) in enumerate(zip(group_names(optimizer), optimizer.param_groups, strict=True)):
                # The momentum of Adam and its like is their first beta.
                key = "betas" if quantity == "momentum" and "betas" in group else quantity
                if group.get(key) is not None:
                    found.append(GroupValue(f"{prefix}/{name}", quantity, number, index, group, key))
    return found


def values_of(optimizers: Sequence[Optimizer], quantities: Collection[str] = QUANTITIES) -> dict[str, float]:
    """Returns what optimizers are set to, by the name under which it is logged.

    >>> import torch
    >>> backbone, head = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    >>> groups = [{"params": [backbone], "lr": 0.01, "name": "backbone"}, {"params": [head]}]
    >>> values_of([torch.optim.SGD(groups, lr=0.1, momentum=0.9)], ["lr"])
    {'lr/backbone': 0.01, 'lr/group1': 0.1}
    """
    return {value.name: value.read() for value in group_values(optimizers, quantities)}


def undo_schedulers(optimizers: Iterable[Optimizer], schedulers: Iterable[Any]) -> None:
    """Sets optimizers back to what they were given before schedulers were made for them.

    The learning rate becomes the base rate that a scheduler has noted, which is the one that the optimizer was given,
    or the peak of a scheduler that overwrites it with its own; momentum and weight decay become the optimizer's own,
    where a scheduler drives them. The present rate says nothing: schedulers with a ``step`` of their own, those that
    are none of torch's kind, such as those of timm, and what dampens rates for a warmup may have set any. Those that
    are none of torch's multiply the rate of a param group by its ``lr_scale``, which becomes a part of it. Where no
    scheduler is given, what one has noted in the param groups stays, since it may go on.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    >>> scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5)
    >>> undo_schedulers([optimizer], [scheduler])
    >>> lr_of(optimizer.param_groups[0])
    0.1
    """
    schedulers = [kept_by(scheduler) for scheduler in schedulers]
    for scheduler in schedulers:
        _undo_cycles(scheduler)
    are_all_of_torch = all(isinstance(scheduler, LRScheduler) for scheduler in schedulers)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate = float(group.get("max_lr", group["initial_lr"])) if "initial_lr" in group else lr_of(group)
            if not are_all_of_torch:
                rate *= float(group.get("lr_scale", 1.0))
            set_base(group, "lr", rate)
            back_to_bases(group)
            for note in _NOTES if schedulers else ():
                group.pop(note, None)
            set_base(group, "lr", rate)


def _undo_cycles(scheduler: Any) -> None:
    for part in parts_of(scheduler):
        _undo_cycles(part)
    if not isinstance(scheduler, (CyclicLR, OneCycleLR)):
        return
    optimizer = scheduler.optimizer
    for number, group in enumerate(optimizer.param_groups):
        if isinstance(scheduler, CyclicLR):
            # It overwrites the rate as OneCycleLR does, but unlike it leaves no note of the peak in the param group.
            group["max_lr"] = scheduler.max_lrs[number]
        if scheduler.cycle_momentum:
            key = "betas" if "betas" in optimizer.defaults else "momentum"
            group[key] = optimizer.defaults[key]

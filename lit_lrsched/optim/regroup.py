"""Another optimizer over the param groups of a module's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from torch.optim import Optimizer

from lit_lrsched.errors import InputError
from lit_lrsched.optim.param_groups import base_lr_of, get_value, group_names, set_value, settings_of


def regroup(make: Callable[[Iterable[Any]], Optimizer], own: Optimizer) -> tuple[Optimizer, str]:
    """Makes an optimizer over the param groups of another, and describes the groups in a text.

    Names and parameters stay. Learning rates keep their ratios: groups that had the old optimizer's default get the new
    rate, or else the group with the highest rate does. Weight decay does the same where it is given; otherwise each
    group keeps its own. Other options in which groups differ are kept where the new class has them.

    Args:
        make: Takes param groups and returns the optimizer.
        own: The optimizer whose groups are taken over.

    Returns:
        The optimizer, and a text that is empty when there is one group.

    Raises:
        InputError: When the new optimizer takes no param groups.
    """
    groups = [
        {"params": group["params"], **{key: it for key, it in settings_of(group).items() if key not in own.defaults}}
        for group in own.param_groups
    ]
    try:
        made = make(groups)
    except ValueError as error:
        raise InputError(f"the optimizer refuses the {len(groups)} param groups of the module: {error}") from error
    if len(groups) == 1:
        return made, ""
    differing = [key for key in own.defaults if _differ([group.get(key) for group in own.param_groups])]
    for key in [key for key in differing if key in made.defaults and key not in ("lr", "weight_decay")]:
        for old, new in zip(own.param_groups, made.param_groups, strict=True):
            new[key] = old[key]
    _scale(made, "lr", [base_lr_of(group) for group in own.param_groups], get_value(own.defaults, "lr"))
    shown = ["lr"]
    if "weight_decay" in differing and "weight_decay" in made.defaults:
        decays = [get_value(group, "weight_decay") for group in own.param_groups]
        if get_value(made.defaults, "weight_decay") == _default_of(type(made), "weight_decay"):
            for group, decay in zip(made.param_groups, decays, strict=True):
                set_value(group, "weight_decay", decay)
        else:
            _scale(made, "weight_decay", decays, get_value(own.defaults, "weight_decay"))
        shown.append("weight_decay")
    shown += [key for key in differing if key in made.defaults and key not in ("lr", "weight_decay")]
    each = [
        f"{name} ({', '.join(f'{key} {_short(group[key])}' for key in shown)})"
        for name, group in zip(group_names(made), made.param_groups, strict=True)
    ]
    lost = [key for key in differing if key not in made.defaults]
    without = f"; {type(made).__name__} has no {' and no '.join(lost)}" if lost else ""
    return made, f"param groups stay: {', '.join(each)}{without}"


def _differ(values: list[Any]) -> bool:
    return any(value != values[0] for value in values[1:])


def _default_of(kind: type, argument: str) -> Any:
    """Returns the default of a class's argument, which a subclass may pass on by its ``**kwargs``."""
    signatures = [inspect.signature(one).parameters for one in kind.__mro__]
    return next((parameters[argument].default for parameters in signatures if argument in parameters), None)


def _scale(made: Optimizer, key: str, old: list[float], default: float) -> None:
    """Sets a value of every group to the new default, in the ratios of the old ones."""
    reference = default if default and default in old else max(old)  # 0 is in no ratio to the others
    for group, value in zip(made.param_groups, old, strict=True):
        if value != reference:
            set_value(group, key, get_value(group, key) * value / reference)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

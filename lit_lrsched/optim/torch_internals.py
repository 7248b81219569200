"""torch's private names, all that this package uses, each behind a function. Checked with torch 2.13."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.fx import GraphModule, Node
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, SequentialLR

# What sees every operator that is called: torch documents it in a note, and has it in no public module.
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

# Trees of tensors, as torch.func itself takes them apart: no public module has these functions in every version.
from torch.utils._pytree import register_pytree_node as register_pytree_node
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_structure as tree_structure
from torch.utils._pytree import tree_unflatten as tree_unflatten
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

COMPILED_NUMBER = "_torchdynamo_wrapper_id"
"""Under this name every compiled module has a number of its own."""

FLAT_WEIGHTS = "_flat_weights"
"""Under this name a recurrent layer has its weights once more."""


def parts_of(scheduler: LRScheduler) -> list[LRScheduler]:
    """Returns the schedulers inside a ``SequentialLR`` or ``ChainedScheduler``: no public name leads to them."""
    return list(getattr(scheduler, "_schedulers", []))


def milestones_of(scheduler: SequentialLR) -> list[int]:
    """Returns the ticks at which a ``SequentialLR`` goes on to its next part: it has no public name for them."""
    return list(scheduler._milestones)


def seem_stepped(optimizer: Optimizer, step: Callable[[], Any]) -> None:
    """Gives an optimizer a ``step`` for which no scheduler warns that the optimizer has to be stepped first."""
    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]  # schedulers wrap a step without this mark
    optimizer._opt_called = True  # type: ignore[attr-defined]  # and look for this one on their first tick
    optimizer.step = step  # type: ignore[method-assign, assignment]


def tells_its_steps(optimizer: Optimizer) -> bool:
    """Returns whether the hooks of an optimizer's steps are called.

    They are not where a class leaves out ``Optimizer.__init__``, as Lookahead and other wrappers of an optimizer do.
    Such a class is hooked once one of its optimizers sets gradients to zero, but not the step that a scheduler has
    wrapped before.
    """
    kinds = [kind for kind in type(optimizer).__mro__ if kind is not Optimizer]  # whose step does nothing
    steps = [vars(kind)["step"] for kind in kinds if "step" in vars(kind)]
    if hasattr(own := vars(optimizer).get("step"), "_wrapped_by_lr_sched"):
        steps[:1] = [own]
    is_hooked = any(getattr(step, "hooked", False) for step in steps)
    return is_hooked and hasattr(optimizer, "_optimizer_step_post_hooks")


def call_first(optimizer: Optimizer, hook: RemovableHandle) -> None:
    """Lets a hook be called before all others as a step ends: torch has this for the hooks of modules alone."""
    optimizer._optimizer_step_post_hooks.move_to_end(hook.id, last=False)  # type: ignore[attr-defined]


def leaves_out_its_step(optimizer: Optimizer) -> bool:
    """Returns whether an optimizer, called for a step, leaves it out for gradients that have overflowed.

    AMP's ``GradScaler`` calls a fused optimizer all the same and gives it, for this call, what it has found.
    """
    found = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def steps_in_its_own_way(optimizer: Optimizer) -> bool:
    """Returns whether more happens at an optimizer's steps than its class does: by hooks of others, or its own step."""
    ours = __name__.partition(".")[0] + "."
    kinds = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")  # which wrappers of an optimizer may lack
    hooks = [hook for kind in kinds for hook in getattr(optimizer, kind, {}).values()]
    step = vars(optimizer).get("step")
    is_replaced = step is not None and not hasattr(step, "_wrapped_by_lr_sched")
    return is_replaced or any(not getattr(hook, "__module__", "").startswith(ours) for hook in hooks)


def version_of(tensor: Tensor) -> int | None:
    """Returns how often a tensor was changed in place; None of one that does not count it."""
    try:
        return tensor._version
    except RuntimeError:
        return None


def name_for_each(function: Any) -> str | None:
    """Returns the method that a function of many tensors applies to each, such as ``mul_``; None for any other."""
    prefix, _, name = getattr(function, "__name__", "").partition("_foreach_")
    return name if name and not prefix else None


def has_gradient_hooks(tensor: Tensor) -> bool:
    """Returns whether anything is called with a tensor's gradient."""
    return bool(tensor._backward_hooks or tensor._post_accumulate_grad_hooks)


def forward_hooks(module: nn.Module) -> list[Any]:
    """Returns what is called before and after a module's ``forward``."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


def is_iterated_as_usual(loader: DataLoader[Any]) -> bool:
    """Returns whether a loader's class leaves to torch how its batches come about."""
    kind = type(loader)
    return kind.__iter__ is DataLoader.__iter__ and kind._get_iterator is DataLoader._get_iterator


# As torch wraps it, the first call loads the compiler, which takes two seconds and is of no use to a dummy.
add_param_group: Callable[[Optimizer, dict[str, Any]], None] = inspect.unwrap(Optimizer.add_param_group)


def draws(node: Node) -> bool:
    """Returns whether a node of a graph draws from the global generator."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    # Attention is among them for the sake of its dropout.
    arguments = [argument.name for argument in schema_of(node.target).arguments]
    given = dict(zip(arguments, node.args, strict=False)) | node.kwargs
    return "dropout_p" not in arguments or given.get("dropout_p", 0.0) != 0.0


def compiled(module: GraphModule, leaves: list[Tensor]) -> Callable[..., list[Tensor]]:
    """Compiles a graph as it is: ``torch.compile`` would look through it again and guard every call."""
    import torch._inductor

    run: Callable[..., list[Tensor]] = torch._inductor.compile(module, [*leaves])
    return run


def schema_of(target: Any) -> Any:
    """Returns what an operator of a graph reads and changes; None for a target that is no operator."""
    return target._schema if isinstance(target, torch._ops.OpOverload) else None


def name_of(target: Any) -> str:
    """Returns the name of an operator of a graph, without its overload; an empty one for what is no operator."""
    schema = schema_of(target)
    return schema.name.removeprefix("aten::") if schema else ""


def aliased(operator: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], list[Any]]:
    """Returns which of its arguments an operator may show in its results, and which of these it changes.

    The arguments may be tensors, or the nodes of a graph.
    """
    shown, changed = [], []
    for place, argument in enumerate(operator._schema.arguments):
        if argument.alias_info:
            given = args[place] if place < len(args) else kwargs.get(argument.name)
            leaves = [leaf for leaf in tree_leaves(given) if leaf is not None]
            shown += leaves
            changed += leaves if argument.alias_info.is_write else []
    return shown, changed


def unsafe_view() -> Any:
    """Returns the operator that ``reshape`` becomes in a graph, which has no public name."""
    return torch.ops.aten._unsafe_view.default


def distributions_check(values: bool) -> bool:
    """Sets whether distributions check their arguments, and returns whether they did, which no public name tells."""
    before: bool = Distribution._validate_args
    Distribution.set_default_validate_args(values)
    return before


def writes_into_shared(error: BaseException | None) -> bool:
    """Returns whether torch.func failed since each run would have written into a tensor that all of them share."""
    said = ("there exists a Tensor `other` in extra_args", "doesn't match the broadcast shape", "inplace randomness")
    return isinstance(error, RuntimeError) and any(text in str(error) for text in said)


def weight_norm() -> Any:
    """Returns the function behind the parametrization of this name, which has no public name of its own."""
    return torch._weight_norm

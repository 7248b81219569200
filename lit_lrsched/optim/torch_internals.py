"""torch's private names, all that this package uses, each behind a function. Checked with torch 2.13."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, SequentialLR

# Trees of tensors, as torch.func itself takes them apart: no public module has these functions in every version.
from torch.utils._pytree import tree_flatten as tree_flatten
from torch.utils._pytree import tree_leaves as tree_leaves
from torch.utils._pytree import tree_map as tree_map
from torch.utils._pytree import tree_structure as tree_structure
from torch.utils._pytree import tree_unflatten as tree_unflatten


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


# As torch wraps it, the first call loads the compiler, which takes two seconds and is of no use to a dummy.
add_param_group: Callable[[Optimizer, dict[str, Any]], None] = inspect.unwrap(Optimizer.add_param_group)


def traced(
    function: Callable[..., Any], leaves: list[Tensor], simpler: Mapping[Any, Callable[..., Any]]
) -> GraphModule:
    """Traces a function on fake tensors, with simpler forms of some operators.

    Nothing is computed on fake tensors. The private option lets real ones take part, for which torch would otherwise
    make a fake world for every operation anew.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    trace = make_fx(function, decomposition_table=dict(simpler), tracing_mode="fake", _allow_non_fake_inputs=True)
    # A function that cannot be traced raises, and torch logs a stack of its own beside it.
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        graph: GraphModule = trace(*leaves)
    finally:
        logger.setLevel(level)
    return graph


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


def unsafe_view() -> Any:
    """Returns the operator that ``reshape`` becomes in a graph, which has no public name."""
    return torch.ops.aten._unsafe_view.default

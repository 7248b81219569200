"""A formula typed as text."""

from __future__ import annotations

import ast
import math
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from lit_lrsched.errors import InputError, cut, did_you_mean, shown
from lit_lrsched.schedules.core import Horizon, Schedule, epoch_length

if TYPE_CHECKING:
    from simpleeval import SimpleEval

_VARIABLES = ("step", "steps", "epoch", "epochs", "progress")
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "cos": math.cos,
    "sin": math.sin,
    "floor": math.floor,
    "ceil": math.ceil,
    "min": min,
    "max": max,
    "abs": abs,
}
_ARITHMETIC = (
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.Call,
    ast.UnaryOp,
    ast.BinOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.UAdd,
    ast.USub,
    ast.Not,
    ast.boolop,
    ast.Eq,
    ast.NotEq,
    ast.Lt,
    ast.LtE,
    ast.Gt,
    ast.GtE,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.FloorDiv,
    ast.Mod,
    ast.Pow,
)
_LONGEST = 2000  # characters
_DEEPEST = 100
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Formula(Schedule):
    """The factor as arithmetic typed on the command line or in YAML.

    Variables: ``step`` (0-based), ``steps`` (of the horizon), ``epoch = step / steps_per_epoch`` and ``epochs``
    (fractions, use ``floor(epoch)`` for the whole ones), ``progress = step / steps`` (from 0 towards 1). Functions:
    ``sqrt exp log cos sin floor ceil min max abs``, and ``pi``. Operators: ``+ - * / // % **``, comparisons,
    ``and or not`` and ``a if condition else b``.

    Use it to try a curve without writing a file.

    Args:
        factor: The formula. It gives the multiplier of the base learning rate, so at least 0, never a learning rate.

    Raises:
        InputError: For a syntax error or a name that is not listed above, at construction; when the arithmetic fails
            at some step (a division by zero, say) or it uses epochs of unknown length, on use.

    >>> from lit_lrsched.schedules import Horizon, table
    >>> table(Formula("(1 - progress) ** 2"), Horizon(4))
    [1.0, 0.5625, 0.25, 0.0625]
    >>> table(Formula("1 if epoch < 2 else 0.1"), Horizon(8, steps_per_epoch=2), interval="epoch")
    [1.0, 1.0, 0.1, 0.1]
    >>> Formula("1 / (1 + stepp)")
    Traceback (most recent call last):
    lit_lrsched.errors.InputError: formula '1 / (1 + stepp)': 'stepp' is unknown (did you mean 'step'?): use ...
    """

    factor: str

    def __post_init__(self) -> None:
        if not isinstance(self.factor, str):
            raise InputError(f"factor={shown(self.factor)} is not a formula: write it as text, like '1 - progress'")
        _parse(self.factor)
        try:
            _evaluate(self.factor, 37, Horizon(100, steps_per_epoch=10))
        except TypeError as error:
            raise InputError(f"formula {shown(self.factor)}: {error}: correct the call") from None
        except (ArithmeticError, ValueError):
            pass  # this may be true of that step only, which training may not visit

    def __call__(self, step: int, horizon: Horizon) -> float:
        """Returns the factor at a step."""
        if horizon.steps_per_epoch is None and _uses_epochs(self.factor):
            epoch_length(f"formula {self.factor!r}", horizon)
        try:
            return _evaluate(self.factor, step, horizon)
        except (ArithmeticError, ValueError, TypeError) as error:
            raise InputError(
                f"formula {shown(self.factor)} cannot be worked out at step {step} of {horizon.steps}: {error}: "
                "change it so that it holds at every step"
            ) from None


def _evaluate(formula: str, step: int, horizon: Horizon) -> float:
    evaluator, tree = _parse(formula)
    with _ONE_AT_A_TIME:  # a formula has one evaluator, which holds the variables while it works
        evaluator.names = {
            "step": float(step),
            "steps": float(horizon.steps),
            **({"epoch": horizon.epoch(step), "epochs": horizon.epochs} if horizon.steps_per_epoch else {}),
            "progress": step / horizon.steps,
            "pi": math.pi,
        }
        return float(evaluator.eval(formula, previously_parsed=tree))


@lru_cache(maxsize=256)
def _uses_epochs(formula: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id in ("epoch", "epochs") for node in ast.walk(_parse(formula)[1]))


@lru_cache(maxsize=256)
def _parse(formula: str) -> tuple[SimpleEval, ast.AST]:
    # Imported here, so that the other schedules need the standard library only.
    from simpleeval import DEFAULT_OPERATORS, SimpleEval

    if len(formula) > _LONGEST:
        raise InputError(
            f"formula {shown(formula)} has {len(formula):,} characters, more than {_LONGEST:,}: "
            "write a function, and use Custom"
        )
    try:
        tree = ast.parse(formula.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two for what is nested too deep
        reason = error.msg if isinstance(error, SyntaxError) else str(error) or "nested too deep"
        raise InputError(
            f"formula {shown(formula)}: {cut(reason, 100)}: write arithmetic like '1 - progress'"
        ) from None
    _check_depth(formula, tree)
    _check_names(formula, tree)
    # simpleeval limits powers, which keeps integers small; ours are powers of floats, and steps exceed its limit.
    operators = {**DEFAULT_OPERATORS, ast.Pow: math.pow}
    return SimpleEval(operators=operators, functions=dict(_FUNCTIONS), names={}), tree


def _check_depth(formula: str, tree: ast.AST) -> None:
    """Refuses nesting that would exceed Python's recursion limit: the evaluator calls itself at every level."""
    level, depth = [tree], 0
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    if depth > _DEEPEST:
        raise InputError(
            f"formula {shown(formula)} is nested {depth} levels deep, more than {_DEEPEST}: "
            "write a function, and use Custom"
        )


def _check_names(formula: str, tree: ast.AST) -> None:
    """Refuses whatever is not arithmetic on the listed names."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    called = {id(node.func) for node in calls}
    for node in ast.walk(tree):
        numeric = not isinstance(node, ast.Constant) or isinstance(node.value, (int, float))
        if not (isinstance(node, _ARITHMETIC) and numeric):
            hint = " (a power is written **)" if isinstance(node, ast.BitXor) else ""
            raise InputError(
                f"formula {shown(formula)}: {type(node).__name__} is not allowed{hint}: "
                f"use numbers, operators, {_listed(_VARIABLES)} and {_listed(_FUNCTIONS)}"
            )
        if isinstance(node, ast.Name):
            known = list(_FUNCTIONS) if id(node) in called else [*_VARIABLES, "pi"]
            if node.id not in known:
                raise InputError(
                    f"formula {shown(formula)}: {shown(node.id)} is unknown{did_you_mean(node.id, known)}: "
                    f"use {_listed(known)}"
                )
    if not all(isinstance(call.func, ast.Name) for call in calls):
        raise InputError(f"formula {shown(formula)}: only {_listed(_FUNCTIONS)} can be called (a product is written *)")


def _listed(names: Iterable[str]) -> str:
    return " ".join(names)

"""Schedules as pure functions of the step. Needs the standard library alone."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_lrsched.schedules.compose import *  # noqa: F403
    from lit_lrsched.schedules.core import *  # noqa: F403
    from lit_lrsched.schedules.custom import *  # noqa: F403
    from lit_lrsched.schedules.decays import *  # noqa: F403
    from lit_lrsched.schedules.formula import *  # noqa: F403
    from lit_lrsched.schedules.plateau import *  # noqa: F403
    from lit_lrsched.schedules.recipes import *  # noqa: F403
    from lit_lrsched.schedules.shapes import *  # noqa: F403

# The one list of schedules: a name here is public, has a short name on the command line and belongs into the gallery.
__all__ = [
    "Chain",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Custom",
    "Exponential",
    "Formula",
    "Horizon",
    "InverseSqrt",
    "InverseTime",
    "Linear",
    "MultiStep",
    "OneCycle",
    "OneMinusSqrt",
    "Phase",
    "Piecewise",
    "Plateau",
    "Polynomial",
    "Product",
    "Repeat",
    "Rex",
    "Schedule",
    "Step",
    "Triangle",
    "WarmupCosine",
    "WarmupInverseSqrt",
    "WarmupLinear",
    "WarmupStableDecay",
    "table",
]

# Where they live. Names resolve on first use (PEP 562), so that importing the package costs next to nothing.
_MODULES = ("core", "decays", "shapes", "recipes", "compose", "plateau", "formula", "custom")


def __getattr__(name: str) -> object:
    for module in _MODULES if name in __all__ else ():
        found = vars(importlib.import_module(f"{__name__}.{module}")).get(name)
        if getattr(found, "__module__", None) == f"{__name__}.{module}":
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load_all() -> None:
    """Loads every schedule: the command line offers by short name only classes that are loaded."""
    for module in _MODULES:
        importlib.import_module(f"{__name__}.{module}")

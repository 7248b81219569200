"""The option ``--version``: of this package and of what it stands on. Loads none of them."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def in_a_line(own: str) -> str:
    """Returns the versions in a line.

    Args:
        own: The version of this package.
    """
    others = ", ".join(f"{name} {_of(name)}" for name in ("torch", "lightning"))
    return f"lit_lrsched {own} ({others}, Python {platform.python_version()})"


def _of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not found"

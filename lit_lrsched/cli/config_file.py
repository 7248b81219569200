"""The option ``--config``, which also takes the name of a configuration that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # public, but not in its `__all__`

_SHIPPED = Path(__file__).parents[1] / "configs"


class ConfigFile(ActionConfigFile):
    """Reads a configuration: a file of the user's, or a shipped one such as ``article/linear.yaml``."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Reads it over what was given before."""
        super().__call__(parser, cfg, _found(values), option_string)  # type: ignore[no-untyped-call]


def _found(value: str) -> str:
    """Returns the path of a shipped configuration, unless the user has a file of that name.

    >>> Path(_found("article/linear.yaml")).is_file(), _found("lr_scheduler: Linear")
    (True, 'lr_scheduler: Linear')
    """
    shipped = _SHIPPED / value
    is_shipped = value.endswith(".yaml") and not Path(value).exists() and shipped.is_file()
    return str(shipped) if is_shipped else value

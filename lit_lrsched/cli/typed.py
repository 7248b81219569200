"""What to type: the command as it was typed, and the program that takes the next one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from lit_lrsched.plans.console import shortest_path

_OURS = Path(__file__).parents[1]


def program(started: str | None = None) -> list[str]:
    """Returns how the program is started: this command, or somebody's own that is a ``ScheduleCLI``.

    Args:
        started: The file that was started. Default: that of this process.

    >>> program("/usr/bin/lit-lrsched"), program("train.py"), program("/usr/bin/train")
    (['lit-lrsched'], ['python', 'train.py'], ['train'])
    """
    path = Path(sys.argv[0] if started is None else started)
    if path.parent == _OURS:  # python -m lit_lrsched
        return ["lit-lrsched"]
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.origin == str(path):  # python -m project.train
        return ["python", "-m", spec.name.removesuffix(".__main__")]
    return ["python", shortest_path(path)] if path.suffix == ".py" else [path.name]


def typed() -> str:
    """Returns the command as it was typed."""
    return shlex.join([*program(), *sys.argv[1:]])


def fit_with(config: str) -> str:
    """Returns the command that trains with a configuration."""
    return shlex.join([*program(), "fit", "--config", config])

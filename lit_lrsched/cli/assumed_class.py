"""Arguments of a class that are typed without the class, such as ``--optimizer.lr 0.3``: the default's is assumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jsonargparse import Namespace

from lit_lrsched.cli.class_choice import OwnArguments


class AssumedClass(OwnArguments):
    """A parser that may be told which class to assume for an option.

    A class that a configuration gives counts in place of the assumed one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.assumable: dict[str, dict[str, Any]] = {}  #: Option to class and arguments, as plain values.
        self.assumed: set[str] = set()  #: The options for which a class was assumed.

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None, *more: Any, **kwargs: Any
    ) -> Namespace:
        """Parses; a class to assume goes first, so that whatever is given later changes or replaces it."""
        typed = [argument.partition("=")[0] for argument in args or []]
        for option, default in self.assumable.items():
            arguments = [name for name in typed if name.startswith(f"--{option}.") and name != f"--{option}.help"]
            is_given = f"--{option}" in typed or (namespace is not None and namespace.get(option) is not None)
            if args is not None and arguments and not is_given:
                self.assumed.add(option)
                args = [f"--{option}={json.dumps(default)}", *args]
        parsed: Namespace = super().parse_args(args, namespace, *more, **kwargs)
        return parsed

    def parse_string(self, *args: Any, **kwargs: Any) -> Namespace:
        """Parses a configuration; one that names no class leaves the assumed one."""
        parsed = super().parse_string(*args, **kwargs)
        for option in self.assumed:
            if option in parsed and parsed[option] is None:
                del parsed[option]
        return parsed

"""Whose arguments are whose, when the command line names another class than a configuration or the defaults do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lit_lrsched.class_paths import import_from
from lit_lrsched.cli.jsonargparse_internals import actions_of, subcommands_of
from lit_lrsched.cli.lightning_cli_package import LightningArgumentParser
from lit_lrsched.cli.pairs import pairs_of
from lit_lrsched.errors import InputError
from lit_lrsched.trainer.lightning_package import rank_zero_info


class OwnArguments(LightningArgumentParser):
    """A parser in which arguments belong to the class that they were given with.

    jsonargparse carries the arguments of one class over to another that takes its place, where the names fit: those of
    the default class, which nobody gave, and those that a configuration gives together with its class. Here the new
    class starts from its own defaults. Arguments that the command line gives for no class in particular stay.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._configurations: list[Namespace] = []

    def get_defaults(self, *args: Any, **kwargs: Any) -> Namespace:
        """Returns the defaults; of a default class its name alone: the class that is chosen in the end is completed."""
        defaults: Namespace = super().get_defaults(*args, **kwargs)
        for action in actions_of(self):
            if isinstance(action.default, Namespace) and "class_path" in action.default:
                defaults[action.dest] = action.default.clone()
        return defaults

    def parse_string(self, *args: Any, **kwargs: Any) -> Namespace:
        """Parses a configuration; where the command line names another class, without the arguments of this one."""
        parsed: Namespace = super().parse_string(*args, **kwargs)
        self._configurations.append(parsed)
        self._forget_unchosen(parsed)
        return parsed

    def parse_object(self, obj: Any, namespace: Namespace | None = None, *args: Any, **kwargs: Any) -> Namespace:
        """Parses plain values over a namespace; a class that they replace takes its arguments along."""
        if namespace is not None:
            namespace = namespace.clone()
            _forget_replaced(namespace, obj)
        parsed: Namespace = super().parse_object(obj, namespace, *args, **kwargs)
        return parsed

    def was_typed(self, key: str) -> bool:
        """Returns whether an option stands on the command line."""
        options = (argument.partition("=")[0].replace(".init_args.", ".") for argument in self._typed())
        return f"--{key}" in options

    def was_chosen(self, key: str) -> bool:
        """Returns whether the command line or a configuration names a class for an option, not its arguments alone."""
        return self.was_typed(key) or any(map(_is_class, self.configured(key)))

    def configured(self, key: str) -> list[Any]:
        """Returns what configurations give for a key, in their order."""
        return [value for one in self._configurations if (value := one.get(key)) is not None]

    def _typed(self) -> Sequence[str]:
        return getattr(self, "args", ())  # jsonargparse sets them when it parses a command line

    def _forget_unchosen(self, parsed: Namespace, prefix: str = "") -> None:
        for key, value in vars(parsed).items():
            if not isinstance(value, Namespace):
                continue
            if not _is_class(value):
                is_subcommand = key in subcommands_of(self)
                self._forget_unchosen(value, "" if is_subcommand else f"{prefix}{key}.")
                continue
            chosen = _last_given(f"--{prefix}{key}", self._typed())
            if chosen and not _same(chosen, value["class_path"]):
                value.pop("init_args", None)
                of = value["class_path"].rpartition(".")[2]
                rank_zero_info(f"--{prefix}{key} {chosen} takes the place of {of}, the arguments of {of} included.")


def _last_given(option: str, arguments: Sequence[str]) -> str | None:
    """Returns the class that the command line names for an option, the last if there are several."""
    found = dict(pairs_of(arguments)).get(option)
    is_name = found and re.fullmatch(r"[^\W\d][\w.]*", found) and Path(found).suffix not in (".yaml", ".yml", ".json")
    return found if is_name else None


def _forget_replaced(namespace: Namespace, obj: Any) -> None:
    """Takes the arguments of every class out of a namespace that plain values replace with another class."""
    for key, value in (vars(obj) if isinstance(obj, Namespace) else obj).items():
        before = namespace.get(key)
        if _is_class(value) and _is_class(before):
            if not _same(value["class_path"], before["class_path"]):
                before.pop("init_args", None)
        elif isinstance(value, (Mapping, Namespace)) and isinstance(before, Namespace):
            _forget_replaced(before, value)


def _is_class(value: Any) -> bool:
    return isinstance(value, (Mapping, Namespace)) and "class_path" in value


def _same(one: str, other: str) -> bool:
    """Returns whether two names, short or with their modules, stand for one class."""
    if one == other:
        return True
    if "." not in one or "." not in other:
        return one.rpartition(".")[2] == other.rpartition(".")[2]
    try:
        return import_from(one) is import_from(other)
    except InputError:
        return False  # whoever parses it will say so

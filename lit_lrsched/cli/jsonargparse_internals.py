"""What this room needs of argparse and jsonargparse beyond their public names. Checked with jsonargparse 4.53."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Iterable
from typing import Any


class ValueHook(ArgumentParser):
    """Makes a jsonargparse parser pass every value through :meth:`before_parsing` before it is parsed."""

    def before_parsing(self, action: Action, value: Any) -> Any:
        """Returns the value to parse in place of one that was typed or stands in a configuration."""
        return value

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:  # argparse: of options on the command line
        return super()._get_values(action, [self.before_parsing(action, one) for one in arg_strings])

    def _check_value_key(self, action: Action, value: Any, *args: Any, **kwargs: Any) -> Any:  # of configurations
        value = self.before_parsing(action, value)
        return super()._check_value_key(action, value, *args, **kwargs)  # type: ignore[misc]


def type_of(action: Action) -> Any:
    """Returns the type that the values of an option have; None where it has none."""
    return getattr(action, "_typehint", None)


def actions_of(parser: ArgumentParser) -> list[Action]:
    """Returns the options of a parser, those of its subcommands left out."""
    return parser._actions


def subcommands_of(parser: ArgumentParser) -> dict[str, ArgumentParser]:
    """Returns the parsers of the subcommands, by name."""
    found: dict[str, ArgumentParser] = {}
    for action in parser._actions:
        found |= getattr(action, "_name_parser_map", {})
    return found


def all_actions(parser: ArgumentParser) -> Iterable[Action]:
    """Yields the options of a parser and of its subcommands."""
    yield from actions_of(parser)
    for child in subcommands_of(parser).values():
        yield from all_actions(child)

"""The help on one schedule: formula, arguments with their units, shape and example. Loads neither torch nor Lightning.

torch's own schedulers, and those of other packages, are explained by the parser.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import Any

import yaml  # type: ignore[import-untyped]

from lit_lrsched import schedules
from lit_lrsched.class_paths import to_plain
from lit_lrsched.cli.help_pages import Option, arguments_in, line_of, plain, width
from lit_lrsched.cli.schedules import printable, sketch
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.examples import EXAMPLES

_INDENT = 30
_UNITS = "A duration has a unit: 30ep epochs, 500st optimizer steps, 10% of the training or the enclosing phase."


def page_of_schedule(name: str) -> str | None:
    """Returns the help on a schedule of this package, by its short name or path; None for any other class."""
    name = name.removeprefix("lit_lrsched.")
    kind = getattr(schedules, name) if name in schedules.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, Schedule) and kind is not Schedule):
        return None
    docstring = plain(inspect.cleandoc(kind.__doc__ or ""))
    source = re.search(r"^Source: (?:.+\n?)+", docstring, flags=re.MULTILINE)
    arguments = _arguments(kind, arguments_in(docstring))
    parts = [
        f"{name}   {sketch(name, 40)}".rstrip(),
        *map(_filled, docstring.partition("\nArgs:\n")[0].strip().split("\n\n")),
        "arguments:\n" + "".join(arguments).rstrip(),
        *([_filled(_UNITS)] if any("duration" in line for line in arguments) else []),
        *([_filled(source[0])] if source else []),
        _example(name),
    ]
    return printable("\n\n".join(parts) + "\n")


def _arguments(kind: Any, said: dict[str, str]) -> list[str]:
    """Returns for each argument what it does, its type and its default."""
    found = []
    for field in dataclasses.fields(kind):
        kinds = f"type: {_in_words(str(field.type))}"
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        about = f"required, {kinds}" if is_required else f"{kinds}, default: {_default(field)}"
        option = Option(f"--lr_scheduler.{field.name}", f"{said[field.name]} ({about})")
        found.append(line_of(option, _INDENT))
    return found


def _in_words(annotation: str) -> str:
    """Returns a type in words.

    >>> _in_words("Duration | None"), _in_words("Literal['rel', 'abs']"), _in_words("Sequence[Phase]")
    ('duration', 'rel or abs', 'list')
    """
    if choices := re.findall(r"'(\w+)'", annotation):
        return " or ".join(choices)
    words = {"Sequence": "list", "Duration": "duration", "float": "number", "int": "whole number", "str": "text"}
    words |= {"ScheduleLike": "schedule", "Direction": "min or max"}
    return next((word for part, word in words.items() if part in annotation), "value")


def _default(field: Any) -> str:
    value = field.default if field.default is not dataclasses.MISSING else field.default_factory()
    return type(value).__name__ if isinstance(value, Schedule) else "none" if value is None else f"{value}"


def _example(name: str) -> str:
    """Returns the example as a command, or as YAML where its arguments are too many for a command."""
    schedule = EXAMPLES.get(name)
    if schedule is None:
        return "example:\n  lit-lrsched fit --lr_scheduler Custom --lr_scheduler.function my_schedules.sawtooth"
    given = {
        field.name: to_plain(value)
        for field in dataclasses.fields(schedule)  # type: ignore[arg-type]  # all of ours are
        if (value := getattr(schedule, field.name)) != field.default
    }
    if all(isinstance(value, (str, int, float)) for value in given.values()):
        options = "".join(f" --lr_scheduler.{key} {_typed(value)}" for key, value in given.items())
        return f"example:\n  lit-lrsched preview --epochs 105 --steps_per_epoch 10 --lr_scheduler {name}{options}"
    plain = {"lr_scheduler": {"class_path": name, "init_args": _short(given)}}
    written = yaml.safe_dump(plain, sort_keys=False, default_flow_style=None, width=90)
    return "example, for lit-lrsched preview --config FILE:\n" + textwrap.indent(written.rstrip(), "  ")


def _short(value: Any) -> Any:
    """Returns plain values as a person would write them: short names, and nothing that is None."""
    if isinstance(value, list):
        return [_short(one) for one in value]
    if not isinstance(value, dict):
        return value
    given = {key: _short(one) for key, one in value.items() if one is not None}
    name = str(given.pop("class_path", "")).removeprefix("lit_lrsched.")
    return {"class_path": name, **given} if name not in ("", "Phase") else given.get("init_args", given)


def _typed(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) and " " in value else str(value)


def _filled(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), width(), break_long_words=False, break_on_hyphens=False)

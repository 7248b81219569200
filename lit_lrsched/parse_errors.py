"""One line out of jsonargparse's pages: the value, the reason and the fix."""

from __future__ import annotations

import re
import sys
from argparse import Action, ArgumentParser
from collections.abc import Iterable
from typing import NoReturn

from lit_lrsched.errors import did_you_mean

# The classes that an option chooses from, by the last word of its name. Named, and not imported: what is not loaded
# has no subclasses to offer, and the quick commands load little.
_SCHEDULE = ("lit_lrsched.schedules.core", "Schedule")
_FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "lr_scheduler": (_SCHEDULE, ("torch.optim.lr_scheduler", "LRScheduler")),
    "schedules": (_SCHEDULE, ("torch.optim.lr_scheduler", "LRScheduler")),
    "schedule": (_SCHEDULE,),
    "optimizer": (("torch.optim", "Optimizer"),),
    "model": (("lightning.pytorch", "LightningModule"),),
    "data": (("lightning.pytorch", "LightningDataModule"),),
    "callbacks": (("lightning.pytorch", "Callback"),),
}


class OneLineErrors(ArgumentParser):
    """Makes a jsonargparse parser answer a mistake with one line and exit status 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the value, the reason and the fix, and exits."""
        if not self.exit_on_error:  # the parser of a nested class: its message becomes part of the outer one
            super().error(message, ex)  # type: ignore[call-arg]
        self.exit(2, f"error: {explain(message, self)}\n")


def mistake_behind(error: BaseException | None, kinds: tuple[type[Exception], ...]) -> BaseException | None:
    """Returns the user's mistake in a chain of exceptions: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error


def explain(message: str, parser: ArgumentParser) -> str:
    """Returns one line that names the value, the reason and the fix.

    >>> from argparse import Action, ArgumentParser
    >>> parser = ArgumentParser(allow_abbrev=False)
    >>> _ = parser.add_argument("--optimizer")
    >>> explain("unrecognized arguments: --optimiser SGD", parser)
    "unrecognized arguments: --optimiser SGD (did you mean '--optimizer'?)"
    """
    if match := re.search(r"unrecognized arguments: (--[^\s=]+)", message):
        options = [option for action in _all_actions(parser) for option in action.option_strings]
        return _one_line(message) + did_you_mean(match[1], options)
    keys = re.findall(r'Parser key "([^"]+)"', message)
    key = ".".join(keys)
    if match := re.search(r"Option '([^']+)' is not accepted", message):
        if not key:
            options = [option[2:] for action in _all_actions(parser) for option in action.option_strings]
            return f"there is no option {match[1]!r}{did_you_mean(match[1], options)}: correct or remove it"
        before = re.findall(r"class_path[= ]'([^']+)'", message[: match.start()])
        class_path = _last(before or re.findall(r"class_path='([^']+)'", message))
        owner = class_path.rpartition(".")[2] or "that class"
        return f"{key}: {owner} has no option {match[1]!r}: see --{_help_of(key)}.help {owner}"
    if match := re.search(r"following arguments are required: ([\w, ]+)", message):
        class_path = _last(re.findall(r"class_path='([^']+)'", message))
        needs = match[1].split(", ")
        fix = " ".join(f"--{key}.{name} VALUE" for name in needs)
        return f"{key}: {class_path.rpartition('.')[2]} needs {match[1]}: add {fix}"
    reasons = _reasons(message)
    names = [match[1] for reason in reasons if (match := re.search(r"dot import path string: (\w+)$", reason))]
    family = [
        getattr(sys.modules[module], name)
        for module, name in _FAMILIES.get(key.rpartition(".")[2], ())
        if module in sys.modules
    ]
    if family and names and "Multiple subclasses" not in message:
        return f"{key}: there is no class {names[0]!r}{did_you_mean(names[0], _names_below(family))}: " + (
            "give a class by its short name or as module.Class"
        )
    given = re.findall(r"Given value: (.+)", message) or re.findall(r"Got value: (.+)", message)
    value = re.sub(r"^NestedArg\(key='[^']+', val=(.*)\)$", r"\1", _last(given)).strip("'")
    if key and value and reasons:
        wanted = ", or ".join(dict.fromkeys(_plainly(reason) for reason in reasons))
        return f"{key}: {value!r} does not fit: {wanted}"
    return _plainly(_one_line(re.sub(r'Parser key "([^"]+)":', r"\1:", message)))


def _help_of(key: str) -> str:
    return "lr_scheduler" if key.partition(".")[0] == "schedules" else key  # a list of classes has no help of its own


def _reasons(message: str) -> list[str]:
    """Returns why each type that an option could have does not fit, those of the innermost option alone."""
    flat = re.sub(r"(Problem with given class_path '[^']+':\s+)?Parser key \"[^\"]+\":\s+", "", message)
    bullets = re.findall(r"^( *)- (.+)", flat, flags=re.MULTILINE)
    deepest = max((len(indent) for indent, _ in bullets), default=0)  # a nested class's reason stands under its outer's
    reasons = [reason for indent, reason in bullets if len(indent) == deepest and "NoneType" not in reason]
    if not bullets and flat.startswith("Expected"):
        return [flat]
    # A class of one family is none of another: the reason lies elsewhere, if there is another.
    return [reason for reason in reasons if not re.search(r"to (be )?a subclass of", reason)] or reasons


def _plainly(reason: str) -> str:
    reason = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", reason)
    reason = re.sub(r"typing\.Literal\[(.+)\]", r"choice of \1", reason)
    reason = re.sub(r"^Type \S+.*? expects a function or a callable class: ", "", reason)
    reason = re.sub(
        r"Expected an? (dot import path) string: .*", r"expected a class or function as module.name", reason
    )
    reason = re.sub(r"\ba (?=[aeiou])", "an ", reason)
    return re.sub(r"^Expected", "expected", re.sub(r"(Expected .+?)\. Got value: .*", r"\1", reason))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _last(found: list[str]) -> str:
    return found[-1].strip() if found else ""


def _names_below(bases: Iterable[type]) -> set[str]:
    names: set[str] = set()
    children: list[type] = []
    for base in bases:
        children += base.__subclasses__()
    for child in children:
        if not child.__name__.startswith("_"):
            names |= {child.__name__} | _names_below([child])
    return names


def _all_actions(parser: ArgumentParser) -> Iterable[Action]:
    for action in parser._actions:
        yield action
        for child in getattr(action, "_name_parser_map", {}).values():
            yield from _all_actions(child)

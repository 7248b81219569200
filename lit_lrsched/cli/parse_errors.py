"""One line out of jsonargparse's pages: the value, the reason and the fix."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
import traceback
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from lit_lrsched.class_paths import import_from
from lit_lrsched.cli.jsonargparse_internals import all_actions, subcommands_of
from lit_lrsched.errors import InputError, cut, did_you_mean, shown
from lit_lrsched.schedules.entry_points import installed

# The classes that an option chooses from, by the last word of its name. Named, and not imported: what is not loaded
# has no subclasses to offer, and the quick commands load little.
_SCHEDULE = ("lit_lrsched.schedules.core", "Schedule")
_FAMILIES: dict[str, tuple[tuple[str, str], ...]] = {
    "lr_scheduler": (_SCHEDULE, ("torch.optim.lr_scheduler", "LRScheduler")),
    "schedules": (_SCHEDULE, ("torch.optim.lr_scheduler", "LRScheduler")),
    "schedule": (_SCHEDULE,),
    "lr_groups": (_SCHEDULE,),
    "groups": (_SCHEDULE,),
    "optimizer": (("torch.optim", "Optimizer"),),
    "model": (("lightning.pytorch", "LightningModule"), ("pytorch_lightning", "LightningModule")),
    "data": (("lightning.pytorch", "LightningDataModule"), ("pytorch_lightning", "LightningDataModule")),
    "callbacks": (("lightning.pytorch", "Callback"), ("pytorch_lightning", "Callback")),
    "logger": (("lightning.pytorch.loggers", "Logger"), ("pytorch_lightning.loggers", "Logger")),
}
_BASES = ("LightningModule", "LightningDataModule", "Callback")  # which there are in two packages
# What people call an option or argument that has another name here.
_OPTIONS_ELSEWHERE = {
    "lr": "--optimizer.lr",
    "learning_rate": "--optimizer.lr",
    "momentum": "--optimizer.momentum",
    "weight_decay": "--optimizer.weight_decay",
    "epochs": "--trainer.max_epochs",
    "max_epochs": "--trainer.max_epochs",
    "steps": "--trainer.max_steps",
    "batch_size": "--data.batch_size",
    "seed": "--seed_everything",
    "schedule": "--lr_scheduler",
    "scheduler": "--lr_scheduler",
    "resume": "--ckpt_path",
}
_ARGUMENTS_ELSEWHERE = {"learning_rate": "lr", "wd": "weight_decay", "base_lr": "lr", "max_epochs": "epochs"}
# How jsonargparse says that a class, or a group of its arguments, has no such argument.
_NO_OPTION = "|".join(
    (
        r"Option '([^']+)' is not accepted",
        r"unrecognized arguments: --([^\s=]+)",
        r"Group '([^']+)' does not accept option '([^']+)'",
    )
)
# A class for the option that takes any below a base.
_EXAMPLES = {
    "Optimizer": "SGD",
    "LRScheduler": "WarmupLinear",
    "Schedule": "WarmupLinear",
    "Callback": "EarlyStopping",
}
# What a function is called with that stands for a class.
_OF_FUNCTIONS = {"optimizer": "params", "lr_scheduler": "optimizer"}
# What people write for class_path.
_CLASS_KEYS = ("type", "name", "class", "cls", "class_name", "target", "_target_")


class OneLineErrors(ArgumentParser):
    """Makes a jsonargparse parser answer a mistake with one line and exit status 2."""

    def parse_path(self, cfg_path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Reads a configuration file; what is wrong with the file itself is told with its name."""
        _check_file(Path(str(cfg_path)))
        return super().parse_path(cfg_path, *args, **kwargs)  # type: ignore[misc]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the value, the reason and the fix, and exits."""
        if not self.exit_on_error:  # the parser of a nested class: its message becomes part of the outer one
            super().error(message, ex)  # type: ignore[call-arg]
        self.exit(2, f"error: {cut(explain(message, self, ex), 600)}\n")


def mistake_behind(error: BaseException | None, kinds: tuple[type[Exception], ...]) -> BaseException | None:
    """Returns the user's mistake in a chain of exceptions: jsonargparse wraps what a constructor raises."""
    while error is not None and not isinstance(error, kinds):
        error = error.__cause__ or error.__context__
    return error


def explain(message: str, parser: ArgumentParser, error: BaseException | None = None) -> str:
    """Returns one line that names the value, the reason and the fix.

    Args:
        message: What jsonargparse says.
        parser: The parser that says it.
        error: The exception that led to it, with those that led to that one.

    >>> from argparse import ArgumentParser
    >>> parser = ArgumentParser(allow_abbrev=False)
    >>> _ = parser.add_argument("--optimizer")
    >>> explain("unrecognized arguments: --optimiser SGD", parser)
    "unrecognized arguments: --optimiser SGD (did you mean '--optimizer'?)"
    """
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    for told in (
        _of_modules(message, key, error),
        _of_options(message, key, parser),
        _of_classes(message, key),
        _of_values(message, key),
    ):
        if told:
            return told
    return _plainly(_one_line(re.sub(r'Parser key "([^"]+)":', r"\1:", message)))


def _of_modules(message: str, key: str, error: BaseException | None) -> str | None:
    """Explains why the module of a class cannot be imported, where the module itself fails."""
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        at = [frame for frame in frames if not frame.filename.startswith("<frozen importlib")]
        if any(frame.name == "<module>" for frame in at):
            told = cut(_one_line(f"{type(error).__name__}: {error}"), 200)
            fix = "install it" if isinstance(error, ModuleNotFoundError) else "correct it there"
            place = f"{Path(at[-1].filename).name}, line {at[-1].lineno}"
            return f"{key}: {shown(_given(message))} cannot be imported: {told} ({place}): {fix}"
        error = error.__cause__ or error.__context__
    return None


def _of_options(message: str, key: str, parser: ArgumentParser) -> str | None:
    """Explains an option that there is not, or that lacks its value."""
    options = [option for action in all_actions(parser) for option in action.option_strings]
    if not key and (match := re.search(r"(unrecognized arguments|ambiguous option): (--[^\s=]+)", message)):
        elsewhere = _OPTIONS_ELSEWHERE.get(match[2][2:], "")
        is_there = elsewhere.rpartition(".")[0] in options or elsewhere in options
        hint = f" (did you mean {elsewhere!r}?)" if is_there else did_you_mean(match[2], options)
        return _one_line(message).partition(" could match ")[0] + hint
    if "expected one argument" in message:
        return f"{_one_line(message)}: give it a value; one that begins with - goes after =, as in --option=-1"
    if not key and (match := re.search(r"following arguments are required: (.+)", message)):
        needs = [_within_subcommand(name, parser) for name in match[1].split(", ")]
        return f"the command needs {', '.join(needs)}: add " + " ".join(f"--{name} VALUE" for name in needs)
    names = [option[2:] for option in options]
    if match := re.search(r"Subcommand '(\w+)' does not accept option '([^']+)'", message):
        return f"{match[1]} has no option {match[2]!r}{did_you_mean(match[2], names)}: correct or remove it"
    if not key and (match := re.search(r"Option '([^']+)' is not accepted", message)):
        return f"there is no option {match[1]!r}{did_you_mean(match[1], names)}: correct or remove it"
    return None


def _within_subcommand(name: str, parser: ArgumentParser) -> str:
    subcommand, _, option = name.partition(".")
    return option if subcommand in subcommands_of(parser) else name


def _of_classes(message: str, key: str) -> str | None:
    """Explains what is wrong with how a class and its arguments are given."""
    if match := re.search(_NO_OPTION, message):
        name = ".".join(filter(None, match.groups()))
        class_path = _owner_of(match, message)
        owner = class_path.rpartition(".")[2] or "that class"
        given = _dict_of(_given(message))
        if name == "class_path" or (name in _CLASS_KEYS and name in given):  # else the class was named well
            return f"{key}: {_class_form(given)}"
        if owner in _EXAMPLES:  # none was chosen: it is the base of all
            example = _EXAMPLES[owner]
            return f"{key}: {name!r} belongs to a class, and none was chosen: give it first, like --{key} {example}"
        hint = _meant(name, class_path, key)
        return f"{key}: {owner} has no option {name!r}{hint}: see --{_help_of(key)}.help {owner}"
    if match := re.search(r"following arguments are required: ([\w, ]+)", message):
        if match[1] in _OF_FUNCTIONS.values():
            return _of_function(key)
        owner = _owner_of(match, message).rpartition(".")[2]
        needs = match[1].split(", ")
        if key.partition(".")[0] == "schedules":
            values = ", ".join(f"{name}: VALUE" for name in needs)
            fix = f"write it as {{class_path: {owner}, init_args: {{{values}}}}}"
        else:
            fix = "add " + " ".join(f"--{key}.{name} VALUE" for name in needs)
        return f"{key}: {owner} needs {match[1]}: {fix}"
    if "Dict must include a class_path and optionally init_args, but got NestedArg" in message:
        return _of_function(key)
    if "Dict must include a class_path" in message:
        return f"{key}: {_class_form(_dict_of(_given(message)))}"
    return None


def _of_function(key: str) -> str:
    """Explains that arguments are given to a function that stands for a class."""
    needs = _OF_FUNCTIONS.get(key.rpartition(".")[2], "optimizer")
    fix = f"give a class, or a function that needs nothing but {needs}"
    return f"{key}: arguments are given to a function, and only a class takes them: {fix}"


def _of_values(message: str, key: str) -> str | None:
    """Explains why a value does not fit: an unknown class, or none of the types that the option could have."""
    reasons = _reasons(message)
    names = [match[1] for reason in reasons if (match := re.search(r"dot import path string: (\w+)$", reason))]
    last = key.rpartition(".")[2]
    family = [getattr(sys.modules[module], name) for module, name in _FAMILIES.get(last, ()) if module in sys.modules]
    if last == "schedules" and names[:1] == ["own"]:
        return (
            f"{key}: a module's own schedule is not named: compare races it as 'own', and preview shows it without "
            "--schedules: leave it out"
        )
    if family and names and "Multiple subclasses" not in message:
        offered = set(installed()) if _SCHEDULE in _FAMILIES[last] else set()
        hint = did_you_mean(names[0], _names_below(family) | offered)
        fix = f"give a class by its short name, or with its module, like my_module.{names[0]}"
        return f"{key}: there is no class {names[0]!r}{hint}: {fix}"
    if last == "phases" and names:
        return f"{key}: {names[0]!r} is not a phase: write each as {{schedule: {names[0]}, lasts: 10ep}}"
    value = _given(message)
    if key and reasons and message.endswith("Given value: "):
        return f"{key}='' is no value: give one, or leave it out"
    if not (key and value and reasons):
        return None
    wanted = ", or ".join(dict.fromkeys(_plainly(reason) for reason in reasons))
    if value.endswith(".py"):
        wanted = f"it is a file: name the class in it, like {Path(value).stem}.MyClass"
    elif any(reason.rpartition(" ")[2] in _BASES for reason in reasons):
        wanted = _of_the_other(value) or wanted
    return f"{key}: {shown(value)} does not fit: {cut(wanted, 200)}"


def _of_the_other(class_path: str) -> str:
    """Returns what there is to say of a class that is made with the Lightning of another name."""
    from lit_lrsched.trainer.lightning_package import of_the_other  # there already, with the base

    try:
        found = import_from(class_path)
    except InputError:
        return ""
    return of_the_other(found) if isinstance(found, type) else ""


def _check_file(path: Path) -> None:
    import yaml  # type: ignore[import-untyped]

    if path.is_fifo():
        return  # which can be read once
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return  # which the parser tells well
    except UnicodeDecodeError:
        raise InputError(f"config={shown(str(path))} is not a text file: give a YAML file") from None
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = cut(_one_line(getattr(error, "problem", None) or str(error)), 100)
        raise InputError(f"config={shown(str(path))}{place}: {problem}: correct the YAML there") from error
    except RecursionError:
        raise InputError(f"config={shown(str(path))} is nested too deep: simplify it") from None
    if content is None:
        raise InputError(f"config={shown(str(path))} is empty: write options into it, or leave it out")
    if not isinstance(content, dict):
        raise InputError(f"config={shown(str(path))} holds no options: write them as lines like 'lr_scheduler: Linear'")


def _given(message: str) -> str:
    """Returns the value that was given, as text."""
    given = re.findall(r"Given value: (.+)", message) or re.findall(r"Got value: (.+)", message)
    return re.sub(r"^NestedArg\(key='[^']+', val=(.*)\)$", r"\1", _last(given)).strip("'")


def _owner_of(match: re.Match[str], message: str) -> str:
    """Returns the class that a complaint is about: named as its value, the last one before it, or the one given."""
    of_value = re.match(r"\. Got value: Namespace\(class_path='([^']+)'", message[match.end() :])
    if of_value:
        return of_value[1]
    before: list[str] = re.findall(r"class_path[= ]'([^']+)'", message[: match.start()])
    if before:
        return before[-1]
    there = re.search(r"Given value: Namespace\(class_path='([^']+)'", message[match.end() :])
    return there[1] if there else _last(re.findall(r"class_path='([^']+)'", message))


def _dict_of(given: str) -> dict[str, Any]:
    try:
        value = ast.literal_eval(given)
    except (SyntaxError, ValueError):
        value = {}
    return value if isinstance(value, dict) else {}


def _class_form(value: dict[str, Any]) -> str:
    """Returns how to write a class and its arguments, in the words of a dict that has them some other way."""
    key = next((key for key in ("class_path", *_CLASS_KEYS) if key in value), "class_path")
    arguments = {name: one for name, one in value.items() if name not in (key, "init_args")}
    inner = value.get("init_args")
    arguments.update(inner if isinstance(inner, dict) else {})
    told = ", ".join(f"{name}: {one}" for name, one in arguments.items())
    wrong = f"{key!r} is no way to name a class" if key != "class_path" else "arguments stand beside class_path"
    arguments_form = f", init_args: {{{cut(told, 80)}}}" if told else ""
    return f"{wrong}: write {{class_path: {value.get(key, 'NAME')}{arguments_form}}}"


def _meant(name: str, class_path: str, key: str) -> str:
    """Returns the hint at the argument of a class that a wrong name stands for, or at the way into its ``**kwargs``."""
    module, _, own = class_path.rpartition(".")
    owner = getattr(sys.modules.get(module), own, None)
    try:
        known = inspect.signature(owner).parameters if callable(owner) else {}
    except (TypeError, ValueError):
        known = {}
    elsewhere = _ARGUMENTS_ELSEWHERE.get(name, "")
    meant = f" (did you mean {elsewhere!r}?)" if elsewhere in known else did_you_mean(name, known)
    if not meant and any(one.kind is one.VAR_KEYWORD for one in known.values()):
        return f" (what its **kwargs takes is given as --{key}.dict_kwargs.{name})"
    return meant


def _help_of(key: str) -> str:
    """Returns the option whose help explains a class: lists, dicts and what a schedule is made of have none."""
    return "lr_scheduler" if key.partition(".")[0] in ("lr_scheduler", "lr_groups", "schedules") else key


def _reasons(message: str) -> list[str]:
    """Returns why each type that an option could have does not fit, those of the innermost option alone."""
    flat = re.sub(r"Problem with given class_path '[^']+':\s+", "", message)
    flat = re.sub(r"Parser key \"[^\"]+\":\s+", "", flat)
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
    reason = re.sub(r"^No module named ('[^']+')$", r"there is no module \1: correct its name", reason)
    if match := re.match(r"module '([^']+)' has no attribute '([^']+)'$", reason):
        names = [name for name in dir(sys.modules.get(match[1])) if not name.startswith("_")]
        return f"module {match[1]!r} has no {match[2]!r}{did_you_mean(match[2], names)}: name a class in it"
    if reason.rpartition(" ")[2] in _BASES:
        from lit_lrsched.trainer.lightning_package import NAME  # there already, with the base

        reason = f"{reason} of {NAME}"
    reason = re.sub(
        r"^Import path .*does not correspond to a subclass of (.+)$",
        r"it is no \1: name a class of this kind, or a function that is annotated to return one",
        reason,
    )
    reason = re.sub(
        r"to be a function that returns (\w+)\.$", r"to be a function that is annotated to return \1", reason
    )
    reason = re.sub(r"\ba (?=[aeiouAEIOU])", "an ", reason)
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
            names |= _names_below([child]) if inspect.isabstract(child) else {child.__name__} | _names_below([child])
    return names

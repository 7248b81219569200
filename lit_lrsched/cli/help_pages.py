"""The help that the command gives at once: what it is for, and its own options first.

What an option does is said once, where it is declared: the pages are put together from the source of those modules.
Nothing is imported for it. Every option of the trainer, of model and data is in the parser's own help, ``--help_all``.
"""

from __future__ import annotations

import ast
import inspect
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent
_INDENT = 26

# What the trainer's own commands do here, and what the others say of themselves in SUMMARY.
_OF_LIGHTNING = {
    "fit": "Train a model with a schedule; with no options, the worked example.",
    "validate": "Evaluate a checkpoint on the validation data.",
    "test": "Evaluate a checkpoint on the test data.",
    "predict": "Write a checkpoint's predictions for every row.",
}
_ORDER = ("fit", "preview", "find", "compare", "forecast", *_OF_LIGHTNING, "schedules")

_EXAMPLES = """
  lit-lrsched preview --epochs 50 --steps_per_epoch 100 --lr_scheduler OneCycle
  lit-lrsched fit --optimizer AdamW --optimizer.lr 3e-4 --lr_scheduler Cosine
  lit-lrsched compare --model my.Net --data my.Data --schedules Constant,Linear
"""


class Option(NamedTuple):
    """An option: how it is typed, and what it does."""

    typed: str
    about: str


_OF_A_RUN = (
    Option("--model CLASS", "The module to train, by its import path. Default: IonosphereClassifier."),
    Option("--data CLASS", "Its data module. Default: IonosphereDataModule; none where the model has loaders."),
    Option("--trainer.max_epochs N", "How long to train. Default: 50."),
    Option("--test true", "Ends fit with the metrics on the test data. Default: for the worked example alone."),
    Option("--ckpt_path FILE", "The checkpoint to go on from, or to evaluate."),
    Option("--seed_everything N", "The seed. Default: 42."),
    Option("-c, --config FILE", "Options as YAML, such as the config.yaml of a run."),
    Option("--print_config", "Prints the configuration and exits."),
    Option("--help_all", "Every option: the trainer's, the model's and the data's too."),
)


def front_page() -> str:
    """Returns what the command is for, in a screen."""
    lines = "".join(line_of(Option(name, about), 13) for name, about in summaries().items())
    return (
        "usage: lit-lrsched COMMAND [OPTIONS]\n\n"
        "Learning-rate schedules for PyTorch Lightning: see what one will do, train any\n"
        "LightningModule with it, and race several with honest statistics.\n\n"
        f"commands:\n{lines}\nexamples:{_EXAMPLES}\n"
        "lit-lrsched COMMAND --help shows its options.\n"
    )


def summaries() -> dict[str, str]:
    """Returns every command with what it does, in a line."""
    found = dict(_OF_LIGHTNING)
    for path in sorted(_FOLDER.glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SUMMARY":
                found[path.stem] = ast.literal_eval(node.value)
    return {name: found[name] for name in sorted(found, key=lambda name: (*_ORDER, name).index(name))}


def page_of(command: str) -> str | None:
    """Returns the help of a command; None for one whose own options cannot be read from its source."""
    if command == "forecast":  # trains nothing
        options = {f"{command}:": _declared(command, "_parser")}
        return _page(f"{command} RUN RUN ... [OPTIONS]", summaries()[command], options)
    if command == "schedules":
        return _page(command, summaries()[command], {})
    own: list[Option] = []
    about = _OF_LIGHTNING.get(command)
    if about is None:
        function = _function(command, command)
        if function is None:
            return None
        own = list(_options_of(function))
        about = (ast.get_docstring(function) or "").partition("\nArgs:")[0].strip()
    schedule = list(_declared("arguments", "add_schedule_arguments"))
    schedule[2:2] = [Option("--lr_scheduler.help NAME", "Explains one; lit-lrsched schedules lists them.")]
    without = {"fit": (), "validate": ("--test ",), "test": ("--test ",), "predict": ("--test ",)}
    left_out = without.get(command, ("--test ", "--ckpt_path", "--run_name"))
    schedule = [one for one in schedule if not one.typed.startswith(left_out)]
    of_a_run = [one for one in _OF_A_RUN if not one.typed.startswith(left_out)]
    sections = {f"{command}:": own, "schedule and optimizer:": schedule, "run:": of_a_run}
    return _page(f"{command} [OPTIONS]", about, sections)


def _page(usage: str, about: str, sections: Mapping[str, Iterable[Option]]) -> str:
    text = f"usage: lit-lrsched {usage}\n\n"
    text += "\n\n".join(textwrap.fill(part, width()) for part in plain(about).split("\n\n")) + "\n"
    for title, options in sections.items():
        if lines := "".join(map(line_of, options)):
            text += f"\n{title}\n{lines}"
    return text


def _function(module: str, name: str) -> ast.FunctionDef | None:
    path = _FOLDER / f"{module}.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []
    return next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _options_of(function: ast.FunctionDef) -> Iterator[Option]:
    """Yields the options that the parser takes from a function: its arguments by name alone."""
    said = arguments_in(ast.get_docstring(function) or "")
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        about = plain(said[argument.arg])
        given = ast.literal_eval(default) if default else None
        if given not in (None, False):
            about += f" Default: {given}."
        yield Option(
            f"--{argument.arg} {_value(ast.unparse(argument.annotation or default or ast.Constant(None)))}", about
        )


def arguments_in(docstring: str) -> dict[str, str]:
    """Returns what a docstring says of each argument."""
    part = re.search(r"^Args:\n((?:    .*\n?|\n)+)", inspect.cleandoc(docstring), flags=re.MULTILINE)
    items = re.findall(r"^    (\w+): (.+(?:\n        .+)*)", part[1] if part else "", flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in items}


def _declared(module: str, function: str) -> Iterator[Option]:
    """Yields the options that a function adds to a parser one by one."""
    calls = ast.walk(_function(module, function) or ast.Module([], []))
    for call in calls:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "parser.add_argument":
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            name = ast.literal_eval(call.args[0])
            value = _value(ast.unparse(given["type"]))
            about = " ".join(str(ast.literal_eval(given["help"])).split())
            yield Option(ast.literal_eval(given["metavar"]) if "metavar" in given else f"{name} {value}", about)


def _value(annotation: str) -> str:
    """Returns how the value of an option is written, from its type."""
    if choices := re.search(r"Literal\[(.+?)\]", annotation):
        return "{" + ",".join(ast.literal_eval(f"[{choices[1]}]")) + "}"
    if annotation in ("bool", "Optional[bool]"):
        return "[true|false]"
    if re.search(r"\bint, list\[", annotation):
        return "N|LIST"
    kinds = {"Scheduler": "NAME", "Optimizer": "NAME", "ist[": "LIST", "dict": "YAML", "Schedules": "LIST"}
    kinds |= {"int": "N", "float": "X", "Interval": "{step,epoch}", "Audit": "{error,warn,off}", "Horizon": "POLICY"}
    return next((shown for part, shown in kinds.items() if part in annotation), "TEXT")


def plain(text: str) -> str:
    """Returns a docstring without its marks: roles and double backquotes."""
    return re.sub(r":(?:class|func|meth):`~?(?:\w+\.)*(\w+)`", r"\1", text).replace("``", "")


def line_of(option: Option, indent: int = _INDENT) -> str:
    """Returns an option with what it does beside it, from a column on, in as many lines as it takes."""
    head = f"  {option.typed}"
    lines = textwrap.wrap(option.about, width() - indent)
    first = f"{head:<{indent - 1}} {lines[0]}\n" if len(head) < indent else f"{head}\n{' ' * indent}{lines[0]}\n"
    return first + "".join(f"{' ' * indent}{line}\n" for line in lines[1:])


def width() -> int:
    """Returns how many characters a line of help may have."""
    return max(60, min(100, shutil.get_terminal_size((100, 24)).columns))

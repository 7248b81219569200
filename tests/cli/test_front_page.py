"""What the command answers at once: the list of schedules, its version and its help."""

from __future__ import annotations

import contextlib
import inspect
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

import lit_lrsched
from lit_lrsched import schedules
from lit_lrsched.cli import compare
from lit_lrsched.cli.forecast import _parser
from lit_lrsched.cli.help_pages import page_of, summaries
from lit_lrsched.cli.jsonargparse_internals import actions_of
from lit_lrsched.cli.schedules import sketch
from lit_lrsched.plans.sparkline import sparkline
from lit_lrsched.schedules.core import Schedule
from lit_lrsched.schedules.examples import EXAMPLES

NAMES = [
    name
    for name in schedules.__all__
    if isinstance(one := getattr(schedules, name), type) and issubclass(one, Schedule) and one is not Schedule
]


def loads(*arguments: str) -> set[str]:
    """The packages that a command loads, in a Python of its own."""
    code = (
        f"import sys; sys.argv = ['lit-lrsched', *{arguments}]\n"
        "from lit_lrsched.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_every_schedule_has_a_line_with_its_shape(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert command("schedules") == 0
    lines = command.out.splitlines()
    listed = {line.split()[0]: line for line in lines[: lines.index("")]}
    assert set(listed) == set(NAMES)
    assert max(map(len, lines[: lines.index("")])) <= 80
    for name in EXAMPLES:
        assert listed[name].split()[1] == sketch(name)
    assert listed["Constant"].split(None, 2)[1:] == ["\u2588" * 16, "The same factor at every step"]
    assert command("schedules", "--help") == 0
    assert command.out.startswith("usage: lit-lrsched schedules\n\nList the schedules")
    assert command("schedules", "Linear") == 2
    assert "schedules takes no arguments, and got Linear" in command.err


def test_every_schedule_has_an_example():
    assert set(EXAMPLES) == set(NAMES) - {"Custom"}
    for name, schedule in EXAMPLES.items():
        assert type(schedule).__name__ == name


@pytest.mark.parametrize(
    ("values", "line"), [([0.0, 0.5, 1.0], "▁▅█"), ([2.0], "███"), ([0.0, 0.0], "▁▁▁"), ([7, 6, 5, 4, 3, 2, 1], "█▅▂")]
)
def test_a_curve_in_a_line(values, line):
    assert sparkline(values, width=3) == line


def test_a_terminal_that_knows_no_unicode():
    code = "import sys; sys.argv = ['lit-lrsched', 'schedules']; from lit_lrsched.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={"PYTHONIOENCODING": "ascii"}
    )
    assert done.stdout.decode("ascii").splitlines()[1].split()[1] == "8877665544332211"


def test_the_version(command):
    assert command("--version") == 0
    assert command.out.startswith(f"lit_lrsched {lit_lrsched.__version__} (torch {version('torch')}, lightning ")


@pytest.mark.parametrize(
    "arguments", [["schedules"], ["schedules", "-h"], ["--version"], ["--help"], ["fit", "-h"], ["forecast", "-h"]]
)
def test_it_loads_neither_torch_nor_lightning(arguments):
    assert loads(*arguments).isdisjoint({"torch", "lightning", "jsonargparse", "numpy", "matplotlib"})


# --- help


@pytest.fixture(scope="module")
def subcommands():
    """The parsers of the subcommands, by name."""
    from lit_lrsched.cli.command import Command
    from lit_lrsched.cli.jsonargparse_internals import subcommands_of

    found = {}

    class Parsing(Command):
        def parse_arguments(self, parser, args):
            found.update(subcommands_of(parser))
            raise StopIteration

    with contextlib.suppress(StopIteration), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lit-lrsched"])  # with no subcommand asked for, all parsers are filled
        Parsing()
    return found


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_the_help_fits_a_screen_and_says_what_the_command_is_for(command, arguments, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert command(*arguments) == 0
    lines = command.out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    examples = lines[lines.index("examples:") + 1 :][:3]
    assert [line.split()[:2] for line in examples] == [["lit-lrsched", name] for name in ("preview", "fit", "compare")]
    assert command(*examples[0].split()[1:]) == 0
    assert "5,000 steps, 50 epochs of 100" in command.out


def test_every_command_is_listed(subcommands):
    assert set(summaries()) == {*subcommands, "schedules"}


@pytest.mark.parametrize("name", sorted(set(summaries()) - {"schedules", "forecast"}))
def test_the_page_of_a_command_has_its_own_options_first(name, subcommands):
    page = page_of(name)
    assert page is not None
    known = {option for action in actions_of(subcommands[name]) for option in action.option_strings}
    typed = re.findall(r"^  (?:-c, )?(--[\w.]+)", page, flags=re.MULTILINE)
    assert set(typed) <= known
    assert len(typed) == len(set(typed))
    assert page.index("--lr_scheduler NAME") < page.index("--trainer.max_epochs N") < page.index("--help_all")
    if name in ("preview", "compare"):
        assert page.index("--schedules") < page.index("--lr_scheduler NAME")
    assert "``" not in page


def test_the_page_of_forecast_has_its_options_without_their_types(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert command("forecast", "a.csv", "--help") == 0
    known = {option for action in actions_of(_parser()) for option in action.option_strings}
    typed = re.findall(r"^  (--\w+) (?:LIST|TEXT|\[true)", command.out, flags=re.MULTILINE)
    assert set(typed) == {option for option in known if re.fullmatch(r"--\w+", option)} - {"--help"}
    assert "\n  RUN  " in command.out
    assert "type:" not in command.out
    assert max(map(len, command.out.splitlines())) <= 80


def test_own_options_of_compare_are_all_there(subcommands):
    page = page_of("compare")
    signature = inspect.signature(compare.compare).parameters.values()
    own = [f"--{one.name} " for one in signature if one.kind is one.KEYWORD_ONLY]
    assert len(own) > 15
    assert [option for option in own if option not in page] == []
    assert "--metric TEXT" in page
    assert "Default: val_acc." in page
    assert "--engine {auto,vectorized,sequential}" in page
    assert "--seeds N|LIST" in page


def test_help_all_shows_everything_but_what_is_internal(subcommands):
    text = " ".join(subcommands["compare"].format_help().split())
    assert "--trainer.accumulate_grad_batches" in text
    assert "lit_lrsched.WarmupCosine" in text
    assert "torch.optim.AdamW" in text
    # Other tests of this process may have loaded classes of other packages that end in the same word.
    paths = set(re.findall(r"[\w.]+", re.sub(r"\btests\.[\w.]+", "", text)))
    names = {path.rpartition(".")[-1] for path in paths}
    assert names.isdisjoint({"StandIn", "ScheduledLR", "SWALR", "DummyOptimizer"})
    assert "torch.optim.Optimizer" not in paths
    assert "--help_all" in text


def test_help_all_is_asked_for_by_its_name(command):
    assert command("fit", "--help_all") == 0
    assert "--trainer.precision" in command.out
    assert command("fit", "--help") == 0
    assert "--trainer.precision" not in command.out

"""What the command answers at once: the list of schedules, its version and its help."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import lit_lrsched
from lit_lrsched import schedules
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


@pytest.mark.parametrize("arguments", [["schedules"], ["--version"]])
def test_it_loads_neither_torch_nor_lightning(arguments):
    assert loads(*arguments).isdisjoint({"torch", "lightning", "jsonargparse", "numpy", "matplotlib"})

"""The documents show what the commands print now, and name what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

import lit_lrsched
from tests.training import Tiny, tiny_trainer

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lit_lrsched"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_no_document_is_stale():
    command = [sys.executable, str(ROOT / "scripts" / "docs" / "readme.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr


def test_the_architecture_lists_every_module_and_no_other():
    command = [sys.executable, str(ROOT / "scripts" / "docs" / "architecture.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed, folder = [], PACKAGE
    for line in page[page.index("<!-- files -->") :].splitlines():
        if heading := re.match(r"\*\*`(.+)/`\*\*", line):
            folder = PACKAGE if heading[1] == PACKAGE.name else PACKAGE / heading[1]
        elif file := re.match(r"- `(.+?)`: \S", line):
            listed.append(folder / file[1])
    there = [path for path in PACKAGE.rglob("*.py") if path.parent == PACKAGE or path.name != "__init__.py"]
    assert sorted(listed) == sorted(there)


def test_the_architecture_names_files_that_exist_and_short_ways():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", page))
    assert len(named) > 20
    assert {name for name in named if not ((PACKAGE / name).exists() or (ROOT / name).exists())} == set()
    for way in ("From the command line to the optimizer", "From the trainer to TensorBoard"):
        (text,) = re.findall(rf"## {way}\n(.*?)\n## ", page, flags=re.DOTALL)
        steps = re.findall(r"^(\d)\. `(\S+\.py)`", text, flags=re.MULTILINE)
        assert [int(number) for number, _ in steps] == list(range(1, len(steps) + 1))
        assert 3 <= len(steps) <= 6


@pytest.fixture
def importable(in_tmp, monkeypatch):
    """Writes a module into the working folder, from which it can be imported; another test may use the same name."""
    monkeypatch.syspath_prepend(str(in_tmp))

    def write(name: str, text: str) -> None:
        Path(f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


MY = """
from lit_lrsched import IonosphereClassifier, IonosphereDataModule


class Module(IonosphereClassifier):
    pass


class DataModule(IonosphereDataModule):
    pass
"""


@pytest.mark.parametrize("name", ["README.md", "docs/recipes.md"])
def test_every_yaml_and_every_command_of_the_documents_works(name, command, importable):
    text = re.sub(r"<!-- run -->\n```console\n.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    importable("my", MY)
    for code in re.findall(r"```python\n(# my_schedules.py\n.*?)```", text, flags=re.DOTALL):
        importable("my_schedules", code)
    assert command("fit", "--trainer.max_epochs=2") == 0  # the run that the recipes resume
    blocks = re.findall(r"```(yaml|bash)\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) >= 4
    named = []
    for language, block in blocks:
        if language == "yaml":
            name = re.match(r"# (\S+\.yaml)\n", block)
            named += [name[1]] if name else []
            Path(name[1] if name else "block.yaml").write_text(block)
            options = [] if name else ["--trainer.max_epochs=4"]
            config = f"--config={name[1] if name else 'block.yaml'}"
            assert command("fit", config, *options) == 0, f"{block}\n{command.err}"
            continue
        for line in block.replace("\\\n", " ").splitlines():
            program, *arguments = shlex.split(line, comments=True) or [""]
            if program == "lit-lrsched":
                says_how_long = "--trainer.max_epochs" in arguments or any(name in arguments for name in named)
                short = [] if says_how_long else ["--trainer.max_epochs=4"]
                assert command(*arguments, *short) == 0, f"{line}\n{command.err}"


def python_blocks(name: str) -> list[str]:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), flags=re.DOTALL)
    return [block for block in blocks if not block.startswith("# my_schedules.py")]


def run_python(block: str, **names: object) -> dict[str, Any]:
    public = {name: getattr(lit_lrsched, name) for name in lit_lrsched.__all__}
    namespace = {**public, "torch": torch, "Trainer": Trainer, **names}
    exec(block, namespace)
    return namespace


def test_the_python_of_the_readme_works(in_tmp):
    on_a_module, own_command = python_blocks("README.md")
    found = run_python(on_a_module, optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
    assert found["scheduler"].get_last_lr() == pytest.approx([0.1 / 501])  # the first of 500 steps of warmup
    module = Tiny(found["configure_optimizers"])
    tiny_trainer().fit(module)
    peak = max(used["lr/group0"] for used in module.used)
    assert peak == pytest.approx(3e-4)
    called = []
    run_python(
        own_command.replace("ScheduleCLI(", "called(ScheduleCLI, "),
        called=lambda *of: called.append(of),
        MyModel=1,
        MyDataModule=2,
    )
    assert called == [(lit_lrsched.ScheduleCLI, 1, 2)]


def test_the_python_of_the_recipes_works(in_tmp):
    with_groups, _, plain = python_blocks("docs/recipes.md")
    found = run_python("def configure_optimizers(self):\n" + textwrap.indent(with_groups, "    "))
    module = Tiny(found["configure_optimizers"])
    tiny_trainer().fit(module)
    decays = [used["weight_decay/head"] / 0.01 for used in module.used]
    assert decays == pytest.approx([1 - 0.5 * step / 55 for step in range(55)])
    assert max(used["lr/head"] for used in module.used) == pytest.approx(1e-3)

    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = [(torch.ones(1, 1), torch.zeros(1, 1))] * 10
    names = {"model": model, "optimizer": optimizer, "loader": loader, "epochs": 4, "loss_of": torch.nn.MSELoss()}
    found = run_python(plain, **names)
    assert found["scheduler"].last_epoch == 40
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_links_and_pictures_exist():
    for document in DOCUMENTS:
        for target, anchor in re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", document.read_text()):
            if target.startswith("http"):
                continue
            file = document.parent / target
            assert file.exists(), f"{document.name}: {target}"
            headings = re.findall(r"^#+ (.+)$", file.read_text(), flags=re.MULTILINE) if anchor else []
            assert not anchor or anchor in [
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings
            ]


def test_a_newcomer_adds_a_schedule_by_the_book(command, importable):
    """Does what CONTRIBUTING says, from outside the package."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(# my_schedules.py\n.*?)```", text, flags=re.DOTALL)
    assert len(code.splitlines()) < 20
    importable("my_schedules", code)
    horizon = ["--epochs=5", "--steps_per_epoch=10"]
    scheduler = ["--lr_scheduler", "my_schedules.Sawtooth"]
    assert command("preview", *scheduler, "--lr_scheduler.low=0.2", *horizon) == 0
    assert command("fit", *scheduler, "--trainer.max_epochs=1") == 0
    assert "learning rate followed the plan (11 of 11 steps)" in command.out
    race = ["--schedules", "{constant: Constant, sawtooth: my_schedules.Sawtooth}", "--lrs=[0.1]", "--momenta=[0.9]"]
    assert command("compare", *race, "--seeds=2", "--trainer.max_epochs=1") == 0
    assert "sawtooth" in command.out

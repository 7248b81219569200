"""Schedules that another package offers by an entry point: a short name like any other, or a line on why not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from lit_lrsched.schedules import entry_points

ROOT = Path(__file__).parents[2]
(GROUP,) = re.findall(r'^\[project\.entry-points\."(.+)"\]$', (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
QUICK = ("preview", "--epochs=2", "--steps_per_epoch=4", "--lr=1.0", "--csv=rates.csv")
SCHEDULE = """
from dataclasses import dataclass

from lit_lrsched import Schedule
from tests.reading import run_folder


@dataclass(frozen=True)
class {name}(Schedule):
    low: float = 0.25

    def __call__(self, step, horizon):
        return 1.0 if step % 2 == 0 else self.low
"""


@pytest.fixture
def install(command, tmp_path, monkeypatch):
    """Lays a package's module and its metadata on the path, as pip would."""

    def lay(package: str, module: str, **offers: str) -> None:
        site = tmp_path / "site"
        metadata = site / f"{package}-1.2.dist-info"
        metadata.mkdir(parents=True)
        (site / f"{package}.py").write_text(module)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {path}\n" for name, path in offers.items()]
        (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n" + "".join(lines))
        monkeypatch.delitem(sys.modules, package, raising=False)
        monkeypatch.syspath_prepend(str(site))
        entry_points.installed.cache_clear()

    yield lay
    entry_points.installed.cache_clear()


def rates() -> list[float]:
    return [float(line.split(",")[-1]) for line in Path("rates.csv").read_text().splitlines()[1:]]


def test_its_short_name_works_wherever_one_of_ours_does(install, command):
    install("acme_teeth", SCHEDULE.format(name="AcmeTeeth"), AcmeTeeth="acme_teeth:AcmeTeeth")
    assert command(*QUICK, "--lr_scheduler=Cosine") == 0
    assert "acme_teeth" not in sys.modules  # what nobody names costs nothing
    assert command(*QUICK, "--lr_scheduler=AcmeTeeth", "--lr_scheduler.low=0.5") == 0, command.err
    assert rates() == [1.0, 0.5] * 4
    chained = "{class_path: Chain, init_args: {phases: [{schedule: AcmeTeeth, lasts: 1ep}, {schedule: Constant}]}}"
    Path("run.yaml").write_text(f"lr_scheduler: {chained}\n")
    assert command(*QUICK, "--config=run.yaml") == 0, command.err
    assert rates() == [1.0, 0.25] * 2 + [1.0] * 4


def test_it_trains_races_and_is_saved_by_its_path(install, command):
    install("acme_saw", SCHEDULE.format(name="AcmeSaw"), AcmeSaw="acme_saw:AcmeSaw")
    assert command("fit", "--lr_scheduler=AcmeSaw", "--trainer.max_epochs=1") == 0, command.err
    assert "learning rate followed the plan (11 of 11 steps)" in command.out
    saved = yaml.safe_load(Path("lightning_logs/AcmeSaw-0.1/config.yaml").read_text())
    assert saved["lr_scheduler"] == {"class_path": "acme_saw.AcmeSaw", "init_args": {"low": 0.25}}
    race = [
        "--schedules=[AcmeSaw, Constant]",
        "--lrs=[0.1]",
        "--momenta=[0.9]",
        "--seeds=2",
        "--trainer.max_epochs=1",
        "--engine=sequential",
    ]
    assert command("compare", *race) == 0, command.err
    assert "AcmeSaw" in command.out


@pytest.mark.parametrize("road", ["fit", "quick preview"])
@pytest.mark.parametrize(
    ("name", "module", "path", "told"),
    [
        ("Cosine", "", "acme:Cosine", "acme 1.2: write lit_lrsched.Cosine or acme.Cosine"),
        ("StepLR", "", "acme:StepLR", "acme 1.2: write torch.optim.lr_scheduler.StepLR or acme.StepLR"),
        ("Acme", "import nothing_of_that_name", "acme:Acme", "acme 1.2 offers it and cannot be imported: ModuleNot"),
        ("Acme", "1 / 0", "acme:Acme", "cannot be imported: ZeroDivisionError: division by zero (acme.py, line 1)"),
        ("Acme", "", "acme:Acme", "cannot be imported: AttributeError: module 'acme' has no attribute 'Acme'"),
        ("Acme", "class Acme: pass", "acme:Acme", "has to name a subclass of lit_lrsched.Schedule called Acme"),
        ("Acme", SCHEDULE.format(name="Other"), "acme:Other", "has to name a subclass of lit_lrsched.Schedule"),
        ("Acme", "def Acme(step, horizon): return 1.0", "acme:Acme", "offers 'acme:Acme' by this name, which is no"),
    ],
)
def test_what_is_wrong_with_a_package_is_told_in_a_line(install, command, road, name, module, path, told):
    install("acme", module, **{name: path})
    first = QUICK if road == "quick preview" else (road,)
    assert command(*first, f"--lr_scheduler={name}") == 2
    assert command.err.startswith("error: ")
    assert command.err.count("\n") == 1
    assert f"{name!r}" in command.err
    assert told in command.err
    assert not Path("lightning_logs").exists()
    assert command(*QUICK, "--lr_scheduler=Linear") == 0, command.err  # who does not name it never hears of it


def test_two_packages_that_offer_one_name(install, command):
    for package in ("acme_one", "acme_two"):
        install(package, SCHEDULE.format(name="AcmeRamp"), AcmeRamp=f"{package}:AcmeRamp")
    assert command(*QUICK, "--lr_scheduler=AcmeRamp") == 2
    for words in ("acme_one 1.2", "acme_two 1.2", "acme_one.AcmeRamp", " or ", "acme_two.AcmeRamp"):
        assert words in command.err
    assert command(*QUICK, "--lr_scheduler=acme_two.AcmeRamp") == 0, command.err


def test_a_name_that_is_nearly_right(install, command):
    install("acme_wave", SCHEDULE.format(name="AcmeWave"), AcmeWave="acme_wave:AcmeWave")
    assert command(*QUICK, "--lr_scheduler=AcmeWaev") == 2
    assert "did you mean 'AcmeWave'?" in command.err

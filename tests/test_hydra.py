"""The guide's files, put into a project that is laid out as lightning-hydra-template is."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from lit_lrsched import Chain, Cosine, Horizon, Linear, Phase, Piecewise, Product, WarmupCosine, table
from tests.hydra_project import train

hydra = pytest.importorskip("hydra")

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "guides" / "hydra.md").read_text()
TEN, TWENTY = (Horizon(5 * epochs, steps_per_epoch=5) for epochs in (10, 20))


@pytest.fixture
def project(in_tmp):
    """The project with the guide's files in it; runs it with the overrides of a command."""
    shutil.copytree(ROOT / "tests" / "fixtures" / "hydra_project" / "configs", "configs")
    for path, text in re.findall(r"```yaml\n# (configs/\S+)\n(.*?)```", GUIDE, flags=re.DOTALL):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text)

    def run(*overrides: str) -> list[float]:
        with hydra.initialize_config_dir(str(in_tmp / "configs"), version_base="1.3"):
            return train(hydra.compose("train", list(overrides))).rates

    return run


def rates(schedule, horizon, after=0):
    return pytest.approx([0.003 * factor for factor in table(schedule, horizon)[after:]])


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_the_guide_s_files_schedule_a_project_and_its_resume(project):
    first, other, longer, stages, torchs = [
        shlex.split(line)[2:] for line in re.findall(r"^python src/train.py .*$", GUIDE, flags=re.MULTILINE)
    ]
    assert project(*other) == rates(WarmupCosine("10%"), TEN)
    shutil.rmtree("checkpoints")
    assert project(*first) == rates(WarmupCosine("5%"), TEN)
    with pytest.warns(UserWarning, match="Resumed at step 50 of 100"):
        assert project(*longer) == rates(WarmupCosine("5%"), TWENTY, after=50)
    assert project(*stages) == rates(Chain([Phase(Linear(0.1, 1.0), "2ep"), Phase(Cosine())]), TEN)
    assert project(*torchs) == pytest.approx([0.003 * 0.5 ** (step // 5 // 3) for step in range(50)])


def test_what_hydra_wraps_is_taken_or_told():
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    def made(target, **arguments):
        return instantiate(OmegaConf.create({"_target_": f"lit_lrsched.{target}", **arguments}))

    assert made("Piecewise", points=[["0ep", 1.0], ["5ep", 0.5]]) == Piecewise([("0ep", 1.0), ("5ep", 0.5)])
    parts = [{"_target_": "lit_lrsched.Cosine"}]
    with pytest.raises(hydra.errors.InstantiationException, match="write _convert_: all beside the _target_ around it"):
        made("Product", schedules=parts)
    assert made("Product", schedules=parts, _convert_="all") == Product([Cosine()])
    with pytest.raises(hydra.errors.InstantiationException, match=r"the schedule itself, Linear\(...\), in Hydra"):
        made("ApplySchedule", schedule={"_target_": "lit_lrsched.Linear", "_partial_": True})


def test_without_the_experiment_the_template_s_own_scheduler_is_not_replaced_in_silence(project):
    with pytest.raises(ValueError, match="LitModule already has ReduceLROnPlateau"):
        project("callbacks=[default,schedule]")

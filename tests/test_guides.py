"""Every guide works as it stands: followed from top to bottom in an empty folder that has the example beside it."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Those with a test of their own: in a project of another layout, and with a batch system.
ELSEWHERE = ("hydra.md", "slurm.md")
PAGES = [DOCS / "tour.md", *sorted((DOCS / "guides").glob("*.md"))]
FILE = re.compile(r"# (\S+\.(?:py|yaml))\n")
# Without these packages the blocks that use them are left out.
NEEDS = {"WandbLogger": "wandb", "MLFlowLogger": "sqlalchemy"}
# What makes a race short.
SHORT = {"compare": ["--seeds=2", "--lrs=[0.03]", "--trainer.max_epochs=1", "--engine=sequential"]}


class Reader:
    """Does what a page says, block by block."""

    def __init__(self, command) -> None:
        self.command = command
        self.names = {"__name__": "__main__"}

    def do(self, language: str, block: str) -> None:
        if file := FILE.match(block):
            Path(file[1]).write_text(block)
        elif language == "python":
            exec(compile(block, "guide", "exec"), self.names)
        else:
            for line in block.replace("\\\n", " ").splitlines():
                self.type(*shlex.split(line, comments=True))

    def type(self, program: str, *arguments: str) -> None:
        if program == "lit-lrsched":
            says_how_long = {"--trainer.max_epochs", "--config"} & {*arguments}
            short = SHORT.get(arguments[0], [] if says_how_long else ["--trainer.max_epochs=2"])
            assert self.command(*arguments, *short) == 0, f"{arguments}\n{self.command.err}"
        else:
            assert program == "python", program
            sys.argv = list(arguments)
            runpy.run_path(arguments[0], run_name="__main__")


@pytest.fixture
def reader(command, tmp_path, monkeypatch):
    shutil.copy(DOCS / "examples" / "spirals.py", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("WANDB_SILENT", "true")
    for module in ("spirals", "train", "stock"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return Reader(command)


def test_the_script_of_slurm_queues_a_stopped_job_again_and_goes_on(in_tmp, monkeypatch):
    """With stand-ins for the batch system and the command: the first run is stopped, the second one finishes."""
    (script,) = re.findall(r"```sh\n(.*?)```", (DOCS / "guides" / "slurm.md").read_text(), flags=re.DOTALL)
    Path("job.sh").write_text(script)
    stand_ins = {
        "srun": '"$@"',
        "scontrol": 'echo "scontrol $*" >> calls',
        "lit-lrsched": 'echo "$*" >> calls; folder=$5/lightning_logs/Cosine-0.1/checkpoints\n'
        "[ -e $folder/last.ckpt ] || { mkdir -p $folder; touch $folder/last.ckpt; exit 143; }",
    }
    for name, text in stand_ins.items():
        Path("bin").mkdir(exist_ok=True)
        Path("bin", name).write_text(f"#!/bin/bash\n{text}\n")
        Path("bin", name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{in_tmp / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    statuses = [subprocess.run(["bash", "job.sh"], check=False).returncode for _ in range(2)]
    assert statuses == [143, 0]
    fit = "fit --config run.yaml --trainer.default_root_dir runs/7"
    assert Path("calls").read_text().splitlines() == [fit, "scontrol requeue 7", f"{fit} --ckpt_path last"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in ELSEWHERE], ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval", "ignore:Resumed at step")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the loggers, inside themselves
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_a_page_can_be_followed(page, reader):
    blocks = re.findall(r"^```(python|yaml|bash)\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert blocks
    for language, block in blocks:
        if all(find_spec(needed) for word, needed in NEEDS.items() if word in block):
            reader.do(language, block)

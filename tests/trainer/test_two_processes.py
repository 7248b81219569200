"""Two processes on the CPU: what both of them do, and what only one may do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy

from lit_lrsched import Horizon, Linear, WarmupCosine, table
from tests.reading import scalars
from tests.trainer.two_processes import STEP
from tests.training import Numbers, SaveAt, quiet_trainer, small, used_by

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have left what they used, in all the cases that there are: starting them takes longest."""
    folder = tmp_path_factory.mktemp("two")
    saver = SaveAt(folder, "on_train_epoch_end")
    used_by(small(Linear()), saver, data=Numbers(10))
    command = [sys.executable, "-m", "tests.trainer.two_processes", str(folder), str(saver.paths[0])]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False, env=environment()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stderr").write_text(done.stderr)
    return folder


def environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")}
    return {**ours, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def rates(folder: Path, case: str) -> list[float]:
    """What the first process used, which is what the second used."""
    first, second = (json.loads((folder / case / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    return [groups[0] for groups in first]


def expected(schedule, horizon: Horizon) -> list[float]:
    return [0.1 * factor for factor in table(schedule, horizon)]


def test_the_horizon_counts_optimizer_steps_of_all_processes_together(trained):
    # 10 numbers are 5 batches for each process; two to a step and the last one flushed make 3 steps an epoch.
    assert rates(trained, "accumulation") == expected(WarmupCosine("20%"), Horizon(9, 3))


def test_one_process_writes_the_log(trained):
    assert len(list((trained / "accumulation").rglob("events*"))) == 1
    logged = scalars(trained / "accumulation" / "version_0", "lr/group0")
    assert logged == pytest.approx(expected(WarmupCosine("20%"), Horizon(9, 3)))


def test_a_plateau_agrees_where_the_metric_does_not(trained):
    # The processes log 10 - e and 10 + 2e at epoch e: 10 + e / 2 on average, which never falls. So the rate is halved
    # by every validation but the first.
    assert rates(trained, "plateau") == pytest.approx([*[0.1] * 10, *[0.05] * 5])


def test_resumed_on_another_number_of_devices(trained):
    # One epoch of 10 steps was done in one process: of what are now 15 steps, 5 are done.
    assert rates(trained, "resumed") == pytest.approx([0.1 * (1 - n / 15) for n in range(5, 15)])


def test_parameters_spread_over_processes(trained):
    whole = expected(WarmupCosine("3st"), Horizon(15, 5))
    assert rates(trained, "sharded") == whole
    assert rates(trained, "sharded resumed") == whole[5:]


def test_both_stop_at_the_step_at_which_both_know(trained):
    # The second is asked in step 7, when both have agreed to go on: both stop after the next. The first, whose exit
    # status is that of the command, ends as the second does.
    assert (trained / "stopped" / "0.signal").read_text() == str(int(signal.SIGTERM))
    stopped, whole = (
        torch.load(trained / path, weights_only=True) for path in ("stopped/last.ckpt", f"whole/{STEP}.ckpt")
    )
    assert stopped["global_step"] == STEP + 1
    assert all(torch.equal(value, whole["state_dict"][name]) for name, value in stopped["state_dict"].items())
    assert repr(stopped["optimizer_states"]) == repr(whole["optimizer_states"])
    assert stopped["lr_schedulers"] == whole["lr_schedulers"]
    assert stopped["loops"]["fit_loop"] == whole["loops"]["fit_loop"]


def test_lightnings_fsdp_strategy_wants_a_gpu():
    # Why parameters are spread by `fully_shard` above. On a GPU there is nothing in the way.
    with pytest.raises(ValueError, match="requires a GPU accelerator"):
        quiet_trainer(strategy=FSDPStrategy())

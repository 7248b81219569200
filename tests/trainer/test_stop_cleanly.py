"""Ctrl-C, and going on from the checkpoint that it leaves."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from lit_lrsched.trainer.callbacks.stop_cleanly import StopCleanly
from tests.reading import run_folder, scalars
from tests.training import Tiny, tiny_trainer


class PressCtrlC(Callback):
    """Presses Ctrl-C before a step, once."""

    pressed = False

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step and not PressCtrlC.pressed:
            PressCtrlC.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore:.*resum.*:UserWarning")
@pytest.mark.parametrize(("interval", "step"), [("step", 20), ("step", 21), ("epoch", 25)])
def test_a_run_goes_on_where_ctrl_c_stopped_it(command, interval, step):
    before = signal.getsignal(signal.SIGINT)
    PressCtrlC.pressed = False
    Path("press.yaml").write_text(
        "trainer:\n  max_epochs: 4\n  callbacks:\n"
        f"    - {{class_path: tests.trainer.test_stop_cleanly.PressCtrlC, init_args: {{step: {step}}}}}\n"
    )
    options = [f"--lr_interval={interval}", "--lr_scheduler=Linear", "--lr_logger.each_step=true"]
    assert command("fit", "--config=press.yaml", *options) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert f"Interrupted after step {step + 1}. To go on:" in command.out
    going_on = re.search(r"^  lit-lrsched (.+)$", command.out, re.MULTILINE)
    assert going_on is not None

    assert command(*shlex.split(going_on[1])) == 0
    # the same folder, and every step once, at the rate that the uninterrupted run would have used
    assert len(list(Path("lightning_logs").iterdir())) == 1
    used = [n if interval == "step" else n - n % 11 for n in range(44)]
    assert scalars(run_folder(), "lr/group0") == pytest.approx([0.1 * (1 - n / 44) for n in used], rel=1e-6)


def test_a_second_fit_is_not_stopped_by_the_ctrl_c_of_the_first(tmp_path, capsys):
    PressCtrlC.pressed = False
    stop = StopCleanly(lambda: ["again"])
    callbacks = [PressCtrlC(2), stop]
    with pytest.raises(SystemExit):
        tiny_trainer(*callbacks, default_root_dir=tmp_path).fit(Tiny(Tiny.make_optimizer))
    module = Tiny(Tiny.make_optimizer)
    tiny_trainer(*callbacks, default_root_dir=tmp_path).fit(module)
    assert len(module.used) == 55

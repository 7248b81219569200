"""Kills `lit-lrsched fit` at random moments, resumes it, and checks that nothing of the run is lost or wrong.

Every run is trained under a schedule of steps. At a random moment it gets SIGKILL or Ctrl-C (SIGINT), is resumed from
``last.ckpt``, and then has to have logged the right learning rate at every step, once, in event files that can be read.

    python scripts/kill_and_resume.py [--runs 50] [--seed 0]
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EPOCHS, STEPS_PER_EPOCH = 60, 11
RUN = Path("lightning_logs", "WarmupCosine-0.1")
CHECKPOINT = RUN / "checkpoints" / "last.ckpt"
FIT = [
    *(sys.executable, "-m", "lit_lrsched", "fit", f"--trainer.max_epochs={EPOCHS}", "--lr_logger.each_step=true"),
    *("--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=10%"),
]


def start(folder: Path, *options: str) -> subprocess.Popen[str]:
    """Starts the command in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*FIT, *options], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def interrupt(folder: Path, number: int, moment: float) -> str:
    """Starts a run, lets it train for a share of what it needs, and sends a signal. Returns what it had printed."""
    running = start(folder)
    # The first checkpoint tells that the first epoch is over, and how long one takes where nothing else is known yet.
    while not (folder / CHECKPOINT).exists():
        if running.poll() is not None:
            raise RuntimeError(f"it ended by itself: {running.communicate()[0]}")
        time.sleep(0.005)
    time.sleep(moment)
    running.send_signal(number)
    return running.communicate()[0]


def check(folder: Path) -> str:
    """Returns what is wrong with a run that was resumed and went to its end, or nothing."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from lit_lrsched import Horizon, WarmupCosine, table

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of the repeated steps that it has forgotten
    accumulator = EventAccumulator(str(folder / RUN), size_guidance={"scalars": 0})
    accumulator.Reload()
    logged = accumulator.Scalars("lr/group0")
    expected = [0.1 * factor for factor in table(WarmupCosine("10%"), Horizon(EPOCHS * STEPS_PER_EPOCH))]
    steps = [event.step for event in logged]
    if steps != list(range(len(expected))):
        return f"of the steps 0 to {len(expected) - 1}, there are {len(steps)}, {len(set(steps))} different ones"
    wrong = [step for step, event in enumerate(logged) if abs(event.value - expected[step]) > 1e-6 * expected[step]]
    return f"wrong rates at the steps {wrong[:5]}" if wrong else ""


def attempt(number: int, moment: float) -> tuple[str, str]:
    """Interrupts one run and resumes it. Returns what happened, and what is wrong with the outcome."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = interrupt(folder, number, moment)
        if "Test metrics" in said:
            return "had finished", ""
        if number == signal.SIGINT and str(CHECKPOINT) not in said:
            return "interrupted", f"Ctrl-C shows no command that goes on: {said[-500:]}"
        resumed = start(folder, f"--ckpt_path={CHECKPOINT}")
        output = resumed.communicate()[0]
        if resumed.returncode:
            return "interrupted", f"resuming ended with status {resumed.returncode}: {output[-1000:]}"
        resuming = ("Resumed at", "Nothing is left to train")  # the latter after a kill between training and testing
        line = next((line for line in output.splitlines() if line.startswith(resuming)), "")
        if not line:
            return "interrupted", "resuming did not say where it goes on"
        return line.split(":")[0], check(folder)


def main() -> int:
    """Does the runs, prints a line for each, and returns 0 if all of them went on as they should."""
    parser = argparse.ArgumentParser(description="Kills runs at random moments and resumes them.")
    parser.add_argument("--runs", type=int, default=50, help="how many (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default: 0)")
    options = parser.parse_args()
    rng, longest, right, done = random.Random(options.seed), 2.0, 0, 0
    while done < options.runs:
        number = (signal.SIGKILL, signal.SIGINT)[done % 2]
        moment = rng.uniform(0.0, longest)
        happened, wrong = attempt(number, moment)
        if happened == "had finished":
            longest *= 0.7  # a fast machine: this was no interruption, so it does not count
            continue
        done += 1
        right += not wrong
        print(
            f"{done:3} {number.name} {moment:5.2f} s after the first epoch. {happened}: {wrong or 'right'}", flush=True
        )
    print(f"{right} of {options.runs} runs went on with the right rates and a readable log")
    return 0 if right == options.runs else 1


if __name__ == "__main__":
    sys.exit(main())

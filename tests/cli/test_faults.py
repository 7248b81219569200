"""What a user sees, and what is left, when something from outside goes wrong."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from lit_lrsched import Constant, IonosphereClassifier, IonosphereDataModule, compare
from lit_lrsched.comparison import records as records_module
from lit_lrsched.comparison.lock import alone_in
from lit_lrsched.comparison.records import RecordStore, stored_records
from lit_lrsched.errors import InputError
from tests.forking import command as run_command
from tests.forking import forked, status_of

RACE = ["compare", "--schedules", "[Constant, Cosine]", "--lrs=[0.1]", "--momenta=[0.9]", "--folder=race"]
SHORT = [*RACE, "--seeds=2", "--trainer.max_epochs=1", "--engine=sequential"]


@pytest.fixture(autouse=True)
def listens_to_ctrl_c():
    """A shell starts background processes deaf to Ctrl-C, and their tests with them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def told_in_a_line(command) -> str:
    (line,) = [line for line in command.err.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in command.err + command.out
    return line


def test_one_process_waits_for_the_other(tmp_path):
    order = []

    def second() -> None:
        with alone_in(tmp_path / "race"):
            order.append("second")

    with alone_in(tmp_path / "race"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
    assert not list(tmp_path.rglob(".lock"))


def test_the_lock_of_a_killed_process_keeps_nobody_out(tmp_path):
    def killed() -> None:
        with alone_in(tmp_path):
            os.kill(os.getpid(), signal.SIGKILL)

    assert status_of(forked(killed)) == -signal.SIGKILL
    assert (tmp_path / ".lock").exists()
    with alone_in(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_same_race_started_twice_at_once(tmp_path):
    outputs = [tmp_path / "first.txt", tmp_path / "second.txt"]
    for child in [forked(run_command(SHORT, tmp_path, output)) for output in outputs]:
        assert status_of(child) == 0, [output.read_text() for output in outputs]
    assert len((tmp_path / "race" / "results.csv").read_text().splitlines()) == 1 + 4
    assert not list(tmp_path.rglob("*.tmp"))


def test_two_runs_do_not_share_a_folder(tmp_path):
    from lit_lrsched.cli.loggers import NewRunLogger

    loggers = [NewRunLogger(str(tmp_path), "Cosine-0.1") for _ in range(3)]
    assert [Path(logger.log_dir).name for logger in loggers] == ["Cosine-0.1", "Cosine-0.1-v1", "Cosine-0.1-v2"]


def test_a_full_disk_in_a_race(command, monkeypatch):
    assert command(*SHORT, "--folder=whole") == 0
    write, left = os.fsync, 3

    def full(number: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(number)

    with monkeypatch.context() as filled:
        filled.setattr(records_module.os, "fsync", full)
        assert command(*SHORT) == 2
    assert told_in_a_line(command).endswith(
        "000003.npz: No space left on device: make room there, then repeat the command; what was finished is kept"
    )
    assert not list(Path("race").rglob("*.tmp"))
    assert len(stored_records(Path("race"))) == 2
    assert command(*SHORT) == 0
    assert Path("race/results.csv").read_bytes() == Path("whole/results.csv").read_bytes()


def test_a_full_disk_in_fit(command):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # a checkpoint takes 11,000 bytes
    try:
        status = command("fit", "--trainer.max_epochs=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 2
    assert "File too large: raise the limit" in told_in_a_line(command)


@pytest.mark.parametrize("arguments", [SHORT, ["fit", "--trainer.max_epochs=1", "--trainer.default_root_dir=file/x"]])
def test_a_folder_that_cannot_be_made(command, arguments):
    Path("file").write_text("")
    assert command(*arguments, *(["--folder=file/race"] if arguments is SHORT else [])) == 2
    assert "Not a directory: choose a folder" in told_in_a_line(command)


def test_a_name_that_is_too_long(command):
    assert command("fit", f"--run_name={'x' * 300}") == 2
    assert "File name too long: give a shorter name" in told_in_a_line(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_race_that_is_interrupted_keeps_what_is_finished(command, monkeypatch, number):
    append = RecordStore.append

    def interrupting(store, records):
        append(store, records)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patched:
        patched.setattr(RecordStore, "append", interrupting)
        assert command(*SHORT) == 128 + number
    assert "To go on:\n  lit-lrsched compare --schedules" in command.out
    assert "Traceback" not in command.err
    assert len(stored_records(Path("race"))) == 1
    assert command(*SHORT) == 0
    assert len(stored_records(Path("race"))) == 4


class InterruptedInside(IonosphereClassifier):
    def on_train_start(self) -> None:
        if not Path("pressed").exists():
            Path("pressed").write_text("")
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_inside_a_training_of_a_race(command):
    before = signal.getsignal(signal.SIGINT)
    assert command(*SHORT, "--model=tests.cli.test_faults.InterruptedInside") == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert "To go on:\n  lit-lrsched compare" in command.out
    assert command(*SHORT, "--model=tests.cli.test_faults.InterruptedInside") == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(sys.platform != "linux", reason="worker processes are for Linux")
def test_a_killed_worker_of_a_race(tmp_path):
    parent = os.getpid()

    def data(seed: int) -> IonosphereDataModule:
        if os.getpid() != parent:
            try:
                (tmp_path / "killed").touch(exist_ok=False)
            except FileExistsError:
                time.sleep(500)  # the other worker is at work, and nobody waits for it
            os.kill(os.getpid(), signal.SIGKILL)
        return IonosphereDataModule(seed=seed)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(InputError, match="a worker process was killed"):
            compare(IonosphereClassifier, data, {"c": Constant()}, lrs=[0.1], seeds=40, epochs=1, folder=tmp_path / "r")
    finally:
        torch.set_num_threads(threads)
    assert not (tmp_path / "r").exists()


def test_nobody_reads(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "lit_lrsched", "preview", "--epochs=3", "--steps_per_epoch=3"]
    arguments += ["--lr_scheduler=Cosine", "--png=null"]
    done = subprocess.run(arguments, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_names_that_look_like_markup(command):
    Path("race.yaml").write_text("schedules: {<script>: Constant, '[bold]x|y': Cosine, n\u00e4he: Linear}\n", "utf-8")
    assert command("compare", "--config=race.yaml", *SHORT[3:]) == 0
    assert "[bold]x|y" in command.out
    report = Path("race/report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in report
    assert "<script><" not in report


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


@pytest.mark.parametrize("kind", ["harmful", "cut", "empty"])
def test_a_checkpoint_that_is_harmful_or_damaged(command, kind):
    torch.save({"global_step": 1, "hyper_parameters": Harmful() if kind == "harmful" else {}}, "a.ckpt")
    if kind != "harmful":
        Path("a.ckpt").write_bytes(Path("a.ckpt").read_bytes()[: 500 if kind == "cut" else 0])
    assert command("fit", "--ckpt_path=a.ckpt") == 2
    assert "ckpt_path='a.ckpt': it is damaged" in told_in_a_line(command)
    assert not Path("harmed").exists()

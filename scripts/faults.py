"""Damages, fills, kills and doubles runs of `lit-lrsched`, and counts how they end.

A race whose files were cut or flipped in the middle has to end with the very numbers of an undamaged race, or be
refused in a line. Every other fault has to end in a line, without a traceback, and lose nothing that was finished.

    python scripts/faults.py [--damages 100] [--seed 0] [--only damage,twice,...]

Disks that are full or read-only are made with `mount`, which needs root on Linux; elsewhere they are left out.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = [sys.executable, "-m", "lit_lrsched"]
FIT = [*COMMAND, "fit", "--trainer.max_epochs=3"]
RACE = [
    *(*COMMAND, "compare", "--schedules", "[Constant, Cosine]", "--lrs=[0.1,0.3]", "--momenta=[0.9]", "--seeds=24"),
    *("--folder=race", "--compile=false", "--trainer.max_epochs=5"),
]
# Two threads, so that worker processes race, whatever the machine has.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2"}


def listen() -> None:
    """Makes Ctrl-C count, which a shell hides from what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(command: list[str], folder: Path, **options: object) -> subprocess.Popen[str]:
    """Starts a command in a folder, with what it prints in a pipe."""
    output = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "env": ENVIRONMENT,
        "preexec_fn": listen,
        **options,
    }
    process: subprocess.Popen[str] = subprocess.Popen(  # type: ignore[call-overload]
        command, cwd=folder, text=True, start_new_session=True, **output
    )
    return process


def finish(command: list[str], folder: Path, **options: object) -> tuple[int, str]:
    """Runs a command in a folder. Returns its status and what it printed."""
    running = start(command, folder, **options)
    output = running.communicate(timeout=600)[0]
    return running.returncode, output or ""


def refused(status: int, output: str) -> bool:
    """Tells whether a command ended as it should when it cannot go on."""
    return status == 2 and output.count("error: ") == 1 and "Traceback" not in output


def results(folder: Path) -> bytes:
    """Returns the final table of a race."""
    return (folder / "race" / "results.csv").read_bytes()


def wait_for(pattern: str, folder: Path, running: subprocess.Popen[str]) -> None:
    """Waits until a file is there."""
    while running.poll() is None and not list(folder.glob(pattern)):
        time.sleep(0.01)


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    """Makes a folder a small disk of its own."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, option: str) -> None:
    """Changes a disk that :func:`mounted` made."""
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def damage(folder: Path, rng: random.Random, count: int) -> str:
    """Cuts or flips the files of a race in its middle, and takes it up again."""
    from lit_lrsched.comparison.records import Record, RecordStore, stored_records
    from lit_lrsched.errors import InputError

    whole = folder / "whole"
    whole.mkdir()
    assert finish(RACE, whole)[0] == 0
    expected, records = results(whole), list(stored_records(whole / "race").values())
    metrics = list(records[0].metrics)

    def begun(place: Path) -> list[Path]:
        """Leaves what a kill would have left: a third in the final files, a third in parts."""
        third = len(records) // 3
        store = RecordStore(place, metrics)
        store.append(records[:third])
        store.finish()
        store = RecordStore(place, metrics)
        for first in range(third, 2 * third, 8):
            store.append(records[first : first + 8])
        return sorted(path for path in place.rglob("*") if path.suffix in (".csv", ".npz"))

    def taken_up(place: Path) -> str:
        left: list[Record] = []
        try:
            store = RecordStore(place, metrics)
            left = [record for record in records if record.key not in store.done]
            store.append(left)
            store.finish()
        except InputError as error:
            return "refused" if str(error).count("\n") == 0 else "unreadable answer"
        except Exception as error:
            return f"traceback ({type(error).__name__})"
        return "right" if (place / "results.csv").read_bytes() == expected else "wrong number"

    ends: dict[str, int] = {}
    for number in range(count):
        place = folder / f"damaged{number}" / "race"
        victim = rng.choice(begun(place))
        content = bytearray(victim.read_bytes())
        if number % 2:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(len(content)) :]
        victim.write_bytes(content)
        if number < 4:  # through the command, which trains what is missing
            status, output = finish(RACE, place.parent)
            right = status == 0 and results(place.parent) == expected
            end = "right" if right else "refused" if refused(status, output) else f"status {status}"
        else:
            end = taken_up(place)
        ends[end] = ends.get(end, 0) + 1
        shutil.rmtree(place.parent)
    return verdict(not set(ends) - {"right", "refused"}, ", ".join(f"{n} {end}" for end, n in sorted(ends.items())))


def twice(folder: Path, rng: random.Random, count: int) -> str:
    """Starts the same race twice at once."""
    whole, both = folder / "once", folder / "twice"
    whole.mkdir()
    both.mkdir()
    finish(RACE, whole)
    running = [start(RACE, both) for _ in range(2)]
    outputs = [one.communicate(timeout=600)[0] for one in running]
    right = [one.returncode for one in running] == [0, 0] and results(both) == results(whole)
    return verdict(
        right, "one waited" if any("waiting for its end" in output for output in outputs) else "one was late"
    )


def two_fits(folder: Path, rng: random.Random, count: int) -> str:
    """Starts two runs at once in one folder."""
    running = [start(FIT, folder) for _ in range(2)]
    for one in running:
        one.communicate(timeout=600)
    runs = sorted(path.name for path in folder.glob("lightning_logs/*"))
    return verdict(len(runs) == 2 and not any(one.returncode for one in running), ", ".join(runs))


def full_disk(folder: Path, rng: random.Random, count: int) -> str:
    """Fits and races where the disk is full at once, or in the middle; makes room and takes up again."""
    ends = []
    for command, size in [(FIT, "4k"), (FIT, "24k"), (RACE, "4k"), (RACE, "20k")]:
        place = folder / f"{command[3]}{size}"
        with mounted(place, size):
            stopped = refused(*finish(command, place))
            remount(place, "size=100m")
            ends.append(stopped and finish(command, place)[0] == 0)
    return verdict(all(ends), f"{sum(ends)} of {len(ends)} told it in a line and went on with room")


def read_only(folder: Path, rng: random.Random, count: int) -> str:
    """Fits and races where nothing can be written."""
    place = folder / "disk"
    with mounted(place, "1m"):
        remount(place, "ro")
        ends = [refused(*finish(command, place)) for command in (FIT, RACE)]
    return verdict(all(ends), f"{sum(ends)} of {len(ends)} told it in a line")


def worker(folder: Path, rng: random.Random, count: int) -> str:
    """Kills a worker process of a race, and takes the race up again."""
    whole, place = folder / "whole", folder / "killed"
    whole.mkdir()
    place.mkdir()
    finish(RACE, whole)
    running = start([*RACE, "--trainer.max_epochs=40"], place)
    wait_for("race/parts/*.npz", place, running)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    stopped = refused(output=running.communicate(timeout=600)[0], status=running.returncode)
    status, _ = finish([*RACE, "--trainer.max_epochs=40"], place)
    return verdict(stopped and status == 0, "told in a line, and the same command went on")


def signals(folder: Path, rng: random.Random, count: int) -> str:
    """Sends Ctrl-C and SIGTERM to races of both engines and to fits."""
    ends = []
    long_fit = [*FIT[:-1], "--trainer.max_epochs=2000"]
    for number in (signal.SIGINT, signal.SIGTERM):
        for name, command, begun in (
            ("vectorized", [*RACE, "--trainer.max_epochs=60"], "race/parts/*.npz"),
            ("sequential", [*RACE, "--engine=sequential"], "race/parts/*.npz"),
            ("fit", long_fit, "**/last.ckpt"),
        ):
            place = folder / f"{name}{number}"
            place.mkdir()
            running = start(command, place)
            wait_for(begun, place, running)
            running.send_signal(number)
            output = running.communicate(timeout=600)[0]
            told = "To go on:\n  lit-lrsched" in output and "Traceback" not in output
            ends.append(told and running.returncode == 128 + number)
    return verdict(all(ends), f"{sum(ends)} of {len(ends)} ended with the command that goes on, and status 130 or 143")


def surroundings(folder: Path, rng: random.Random, count: int) -> str:
    """Runs where nobody reads, without HOME and TMPDIR, under LANG=C, in folders with strange names."""
    place = folder / "a folder of Zo\u00eb\u2019s"
    place.mkdir()
    bare = {"PATH": os.environ["PATH"], "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    bare |= {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
    named = ["--schedules", "{<script>: Constant, '[bold]x|y': Cosine, n\u00e4he: Linear}", "--png=n\u00e4he.png"]
    ends = [
        finish(FIT, place, env=bare)[0] == 0,
        finish([*COMMAND, "preview", "--epochs=3", "--steps_per_epoch=3", *named], place, env=bare)[0] == 0,
        finish([*RACE, *named[:2]], place, env=bare)[0] == 0,
        "&lt;script&gt;" in (place / "race" / "report.html").read_text(encoding="utf-8"),
    ]
    for command in (FIT, [*COMMAND, "preview"]):
        reader, writer = os.pipe()
        os.close(reader)
        running = start(command, place, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        ends.append("Traceback" not in (running.communicate(timeout=600)[1] or "") and running.returncode == 0)
    return verdict(all(ends), f"{sum(ends)} of {len(ends)}: {ends}")


def verdict(right: bool, text: str) -> str:
    """Returns a line of the result."""
    return f"{'right' if right else 'WRONG'}  {text}"


FAULTS: dict[str, Callable[[Path, random.Random, int], str]] = {
    function.__name__: function
    for function in (damage, twice, two_fits, full_disk, read_only, worker, signals, surroundings)
}


def main() -> int:
    """Tries every fault, prints a line for each, and returns 0 if all of them ended as they should."""
    parser = argparse.ArgumentParser(description="Tries faults, and counts how they end.")
    parser.add_argument("--damages", type=int, default=100, help="how many files are cut or flipped (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the damages (default: 0)")
    parser.add_argument("--only", default=",".join(FAULTS), help="which faults, of %(default)s")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)  # each damage is told
    can_mount = sys.platform == "linux" and os.geteuid() == 0
    wrong = 0
    for name in options.only.split(","):
        if name in ("full_disk", "read_only") and not can_mount:
            print(f"{name:13} left out: it needs root on Linux")
            continue
        with tempfile.TemporaryDirectory() as folder:
            line = FAULTS[name](Path(folder), random.Random(options.seed), options.damages)
        print(f"{name:13} {line}", flush=True)
        wrong += line.startswith("WRONG")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

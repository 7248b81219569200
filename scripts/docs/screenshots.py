"""Takes screenshots of real runs for the README: the report and TensorBoard, in headless Chromium.

python scripts/docs/screenshots.py [--chromium /usr/bin/chromium]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "img"
BIN = Path(sys.executable).parent
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
WARMUP = ["--lr_scheduler=WarmupCosine", "--lr_scheduler.warmup=10%", "--optimizer=SGD", "--optimizer.lr=0.3"]
# The pictures of TensorBoard: the folder that it shows, the page and the size of the window.
PAGES = {
    "tensorboard.png": ("lightning_logs/WarmupCosine-0.3", "#custom_scalars&_smoothingWeight=0", "1280,800"),
    "scalars.png": (
        "lightning_logs/WarmupCosine-0.3",
        "#scalars&_smoothingWeight=0&tagFilter=%5E(lr%7Ctrain%7Cval)",
        "1280,1050",
    ),
    "hparams.png": ("lightning_logs/compare", "#hparams", "1400,640"),
}


def main() -> None:
    """Runs the commands of the README and photographs what they leave behind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    chromium = parser.parse_args().chromium
    if not chromium:
        sys.exit("error: there is no chromium on PATH: install it, or give --chromium")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        lit_lrsched(folder, "fit", *WARMUP)
        lit_lrsched(folder, "compare", "--folder=lightning_logs/compare")
        report = f"file://{folder}/lightning_logs/compare/report.html"
        shoot(chromium, report, "report.png", "1280,1480")
        shoot(chromium, report, "report-phone.png", "500,1400")
        for name, (logs, page, size) in PAGES.items():
            board = subprocess.Popen(
                [str(BIN / "tensorboard"), f"--logdir={logs}", "--host=127.0.0.1", "--port=6061"], cwd=folder
            )
            try:
                wait_for("http://127.0.0.1:6061/data/runs")
                shoot(chromium, f"http://127.0.0.1:6061/{page}", name, size)
            finally:
                board.terminate()
                board.wait()


def wait_for(address: str) -> None:
    """Waits until a server answers, and has read its runs."""
    for _ in range(60):
        time.sleep(1)
        try:
            with urllib.request.urlopen(address) as response:
                if response.read() not in (b"[]", b"[]\n"):
                    return
        except OSError:
            pass
    sys.exit(f"error: nothing answers at {address}")


def lit_lrsched(folder: str, *arguments: str) -> None:
    """Runs the command in a folder."""
    environment = {**os.environ, "COLUMNS": "100"}
    subprocess.run([str(BIN / "lit-lrsched"), *arguments], cwd=folder, env=environment, check=True)


def shoot(chromium: str, address: str, name: str, size: str) -> None:
    """Takes one screenshot."""
    with tempfile.TemporaryDirectory() as profile:
        target = [f"--user-data-dir={profile}", f"--window-size={size}", f"--screenshot={IMAGES / name}"]
        patience = ["--virtual-time-budget=30000", "--timeout=60000"]
        subprocess.run([chromium, *FLAGS, *target, *patience, address], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()

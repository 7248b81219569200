"""How the matrix library rounds: alike wherever a matrix lies, so that a run's place among the runs changes no bit."""

from __future__ import annotations

import os
from pathlib import Path

import torch


def _rounds_alike_everywhere() -> bool:
    """Returns whether MKL's products do not depend on where their matrices lie.

    They do not on Intel's processors with AVX-512: of 40,000 products of random shapes and addresses none differed.
    """
    try:
        intel = "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return intel and torch.backends.cpu.get_cpu_capability() == "AVX512"


ROUNDS_ALIKE = _rounds_alike_everywhere()

# Elsewhere MKL has to be asked for it before its first product, and takes up to twice as long. One who computed before
# sees equal results up to the last bits.
os.environ.setdefault("MKL_CBWR", "AUTO" if ROUNDS_ALIKE else "AUTO,STRICT")

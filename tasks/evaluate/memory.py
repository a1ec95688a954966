"""Peak memory of this process on a device, from a moment on."""

from __future__ import annotations

import contextlib
import re
import resource
from pathlib import Path

import torch


def reset_peak_memory(device: str) -> None:
    """Starts the measurement anew, where the system lets us."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # no Linux, or /proc is read-only: the peak is then that of the whole process
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: str) -> int:
    """Largest memory in use since the last reset: resident memory of the process on the CPU, allocations on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

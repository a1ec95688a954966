"""`metrics.jsonl`: one row a logged step or validation, cut back to the checkpoint on resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


class MetricsLog:
    def __init__(self, path: Path, resumed_step: int | None) -> None:
        """Opens the log for rows after `resumed_step`; None starts it anew.

        Rows after the checkpoint, and a row torn by a kill, are dropped: they are written again.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = b"" if resumed_step is None or not path.exists() else _rows_up_to(path.read_bytes(), resumed_step)
        path.write_bytes(kept)
        self._file = open(path, "ab")  # noqa: SIM115 - closed by close()

    def write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Brings all rows to the disk, before the checkpoint that vouches for them is put in place."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _rows_up_to(content: bytes, step: int) -> bytes:
    kept = []
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n") or json.loads(line)["step"] > step:
            break
        kept.append(line)
    return b"".join(kept)

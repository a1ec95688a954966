"""One process of speed.py: imports NeMo, waits for its turn on the GPU, trains, and writes how much memory it takes.

python turn.py JOB.json LOCK_FILE FOLDER
"""

from __future__ import annotations

import fcntl
import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))


def main(job: str, lock_path: str, folder: Path) -> None:
    from tasks.training.nemo_compat import prepare

    prepare()
    import nemo.collections.llm  # noqa: F401
    import nemo_run  # noqa: F401

    from tasks.training import nemo_data, nemo_process, nemo_recipes, nemo_watch, weights  # noqa: F401

    # Random weights lie near ln(vocabulary) on any text, which need not be the reference's text.
    weights.REFERENCE_TOLERANCE_NATS |= dict.fromkeys(weights.REFERENCE_TOLERANCE_NATS, 0.5)
    with open(lock_path, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "began").touch()
        threading.Thread(target=tell_memory, args=(folder / "memory.json",), daemon=True).start()
        nemo_process.main(job)


def tell_memory(path: Path) -> None:
    import torch

    while True:
        time.sleep(0.5)
        if torch.cuda.is_available():
            figures = {
                "allocated_gibibytes": round(torch.cuda.max_memory_allocated() / 2**30, 1),
                "reserved_gibibytes": round(torch.cuda.max_memory_reserved() / 2**30, 1),
            }
            aside = path.with_suffix(".aside")
            aside.write_text(json.dumps(figures))
            aside.rename(path)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

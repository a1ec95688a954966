"""A whole synthetic pipeline, sealed by the real store, for the tests of `deliver`."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict

from data_contracts.artifacts import (
    Adapter,
    Artifact,
    Corpus,
    Delivery,
    EvalReport,
    HfModel,
    InstructionSet,
    RawCorpus,
    TokenDataset,
)
from data_contracts.manifest import DataSource, Summary
from data_contracts.rows import DOCUMENTS, LEDGER, QUARANTINE
from tasks.deliver.config import DeliverConfig
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.stages import DELIVER
from tasks.store import Store
from tasks.workspace import Workspace

SCRIPT = "<script>alert(1)</script>"
HOSTILE = f"| `x` | [a](javascript:alert(1)) {SCRIPT} **bold** | 半角ｶﾅ　全角 👩‍🚀 が"
JAPANESE = (
    "富士山の標高は3776メートルである。山頂からは駿河湾と南アルプスを望むことができ、古くから信仰の対象とされてきた。"
)

Rows = list[dict[str, Any]]


class FakeConfig(BaseModel):
    """What a fake stage writes: files by name, and its summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: dict[str, str] = {}
    documents: dict[str, list[str]] = {}
    ledger: Rows = []
    quarantine: Rows = []
    summary: Summary = Summary()
    learning_rate: float | None = None
    rank: int | None = None
    sequence_length: int | None = None


def fake_body(config: FakeConfig, workspace: Workspace, **inputs: Artifact) -> Summary:
    """The body of every fake stage."""
    for name, content in config.files.items():
        workspace.write_bytes(name, content.encode())
    for split, ids in config.documents.items():
        rows = [dict.fromkeys(DOCUMENTS.names, "") | {"id": i, "text": JAPANESE} for i in ids]
        with workspace.parquet(f"documents/{split}-00000.parquet", DOCUMENTS) as writer:
            writer.write_table(pa.Table.from_pylist(rows, DOCUMENTS))
    if config.documents and inputs:
        with workspace.parquet("ledger.parquet", LEDGER) as writer:
            writer.write_table(pa.Table.from_pylist(config.ledger, LEDGER))
    if config.quarantine:
        rows = [{**row, "raw": row["raw"].encode()} for row in config.quarantine]
        with workspace.parquet("quarantine.parquet", QUARANTINE) as writer:
            writer.write_table(pa.Table.from_pylist(rows, QUARANTINE))
    return config.summary


class Pipeline(NamedTuple):
    store: Store
    artifacts: dict[str, Artifact]

    def deliver(self, **config: Any) -> Delivery:
        request = Request.of(DELIVER, DeliverConfig(**config), self.artifacts)
        self.store.build(request, Runtime(store=self.store.root))
        return Delivery.open(self.store.sealed(request))


def removed(identifier: str, name: str, score: float, threshold: float, text: str, **more: Any) -> dict[str, Any]:
    row = {"source": "sample/train_0.jsonl:1", "split": "train", "cluster": None, "kept_id": None, "matched_id": None}
    reason = f"{name}: {score:.3g} measured, bound {threshold:.3g}"
    return (
        row
        | {"id": identifier, "filter": name, "score": score, "threshold": threshold, "reason": reason, "text": text}
        | more
    )


def curation() -> tuple[list[str], dict[str, Rows], list[str], Rows]:
    """Ids read, ledgers by stage, ids kept and the truth of a corpus of 400 documents."""
    ids = [f"d{n:04d}" for n in range(400)]
    truth: Rows = [{"id": i, "split": "train", "cluster": i, "fault": None, "jaccard": None} for i in ids]
    filtered, unique = [], []
    for n in range(18):
        kind = ("english", "chinese", "korean")[n % 3]
        truth[n]["fault"] = kind
        if n != 4:
            filtered.append(removed(ids[n], "language", 0.02 * n, 0.8, "The quick brown fox " * 20))
    for n in range(18, 26):
        truth[n]["fault"] = "stub"
        filtered.append(removed(ids[n], "length", n, 100, HOSTILE if n == 25 else "短い。"))
    for n in range(26, 50):
        kind = "exact_duplicate" if n < 38 else "near_duplicate"
        truth[n] |= {"fault": kind, "cluster": ids[n + 100], "jaccard": 1.0 if n < 38 else 0.9}
        # Dedup may remove the original and keep the copy.
        gone, stays = (ids[n + 100], ids[n]) if n % 2 else (ids[n], ids[n + 100])
        if n != 49:
            score = 1.0 if n < 38 else 0.81 + n / 1000
            unique.append(removed(gone, kind, score, 0.8, JAPANESE, cluster=stays, kept_id=stays, matched_id=stays))
    for n in range(50, 56):
        truth[n] |= {"fault": "distant_variant", "cluster": ids[n + 100]}
    unique.append(removed(ids[50], "near_duplicate", 0.801, 0.8, JAPANESE, cluster=ids[150], kept_id=ids[150]))
    gone = {row["id"] for row in (*filtered, *unique)}
    return ids, {"filter": filtered, "dedup": unique}, [i for i in ids if i not in gone], truth


def counts(num_in: int, num_removed: int, **more: int) -> dict[str, int]:
    return {
        "num_documents_in": num_in, "num_documents_removed": num_removed, "num_documents_kept": num_in - num_removed,
        "num_characters_kept": 61 * (num_in - num_removed), **more,
    }  # fmt: skip


def metrics(steps: int, start: float, end: float, *, seed: int = 1) -> str:
    dice, lines = random.Random(seed), []
    for step in range(10, steps + 1, 10):
        loss = end + (start - end) * math.exp(-3.2 * step / steps) + dice.gauss(0, 0.05)
        rate = 3e-3 * (step / 40 if step < 40 else 0.5 + 0.5 * math.cos(math.pi * (step - 40) / steps))
        speed = 5200 + dice.gauss(0, 120)
        # Rounded: the last bit of exp and cos is the platform's, and these values reach the golden digest by the key.
        loss, rate, speed = round(loss, 5), round(rate, 8), round(speed, 1)
        row = {
            "step": step,
            "loss": loss,
            "learning_rate": rate,
            "tokens_consumed": step * 2048,
            "tokens_per_second": speed,
        }
        lines.append(json.dumps(row))
        if step % 50 == 0:
            lines.append(json.dumps({"step": step, "validation_loss": round(loss + 0.08, 5)}))
    return "\n".join([*lines, '{"step": 41']) + "\n"


def scores(loss: float, bits_per_nat: float) -> dict[str, float]:
    bits = round(loss * bits_per_nat, 6)
    return {"loss": loss, "perplexity": round(math.exp(loss), 6), "bits_per_character": bits}


def evaluation() -> dict[str, Any]:
    models = {}
    for model, japanese, english, cloze, exact in (
        ("base", 8.31, 8.34, 0.27, 0.0), ("continued", 2.21, 8.92, 0.81, 0.02), ("tuned", 2.25, 9.04, 0.79, 0.44),
    ):  # fmt: skip
        answer = {"base": "のののの", "continued": "札幌市である。北海道", "tuned": "札幌市"}[model]
        models[model] = {
            "japanese": scores(japanese, 0.9), "english": scores(english, 0.4),
            "cloze": {"accuracy": cloze, "num_questions": 200, "chance": 0.25},
            "questions": {
                "exact_match": exact, "num_questions": 50,
                "examples": [{"prompt": "北海道の道庁所在地はどこですか。", "expected": "札幌市", "answer": answer}],
            },
            "num_parameters": 2_412_000,
        }  # fmt: skip
    return {"models": models, "changes": {}}


def generations() -> str:
    texts = {
        "base": "ののがをは、、1はに" * 6,
        "continued": "春は桜、夏は海、秋は紅葉、冬は雪である。" * 3,
        "tuned": f"春には桜が咲き、夏は暑い。{SCRIPT}",
    }
    prompts = ("日本の四季の特徴を、春夏秋冬の順に説明してください。", "水の化学式は")
    rows = [{"model": m, "prompt": p, "text": t} for p in prompts for m, t in texts.items()]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def speeds() -> str:
    row = {"tokens_per_second": 812.4, "peak_memory_bytes": 512 << 20, "load_seconds": 0.41}
    return json.dumps(dict.fromkeys(("base", "continued", "tuned"), row))


def configs() -> dict[str, FakeConfig]:
    """The config of every fake stage, by the parameter name of its artifact."""
    ids, ledgers, kept, truth = curation()
    num_filtered, num_unique = len(ids) - len(ledgers["filter"]), len(kept)
    data = DataSource(
        name="llm-jp/sample", url="https://example.org/data", revision="v3", licence="CC-BY-SA-4.0", attribution=HOSTILE
    )
    weights = DataSource(
        name="Qwen/Qwen2.5-0.5B", url="https://example.org/qwen", revision="060db6", licence="Apache-2.0"
    )
    model = {"config.json": '{"model_type": "qwen2"}', "model.safetensors": "weights " * 999, "tokenizer.json": "{}"}
    raw_counts = {
        "num_lines_in": 409, "num_documents_kept": 400, "num_documents_unsampled": 0, "num_quarantined": 7,
        "num_blank_lines": 2, "num_characters_kept": 61 * 400,
    }  # fmt: skip
    broken = [
        {"file": "train_0.jsonl", "line": n, "byte_offset": n * 90, "reason": "no valid JSON", "raw": '{"text": "途'}
        for n in range(7)
    ]
    holds = {"documents": {"in": 400, "reconcile": True}, "every_removed_document_is_in_the_ledger": True}
    return {
        "raw": FakeConfig(
            documents={"train": ids}, quarantine=broken,
            files={"truth/documents.jsonl": "".join(json.dumps(row) + "\n" for row in truth)},
            summary=Summary(counts=raw_counts, sources=[data], proofs={"every_line_accounted_for": True}),
        ),
        "filtered": FakeConfig(
            documents={"train": ids[25:]}, ledger=ledgers["filter"],
            summary=Summary(counts=counts(400, len(ledgers["filter"])), proofs=holds),
        ),
        "unique": FakeConfig(
            documents={"train": kept}, ledger=ledgers["dedup"],
            summary=Summary(
                counts=counts(num_filtered, len(ledgers["dedup"])), proofs={"jaccard": {"exact": True, "recall": 0.998}}
            ),
        ),
        "corpus": FakeConfig(
            documents={"train": kept[20:], "validation": kept[:20]},
            summary=Summary(
                counts=counts(num_unique, 0, num_documents_train=num_unique - 20, num_documents_validation=20),
                proofs={"leak": {"near_duplicates_across": 0}},
            ),
        ),
        "base": FakeConfig(files=model, summary=Summary(sources=[weights], counts={"parameters": 2_412_000})),
        "tokens": FakeConfig(
            files={"train_text_document.bin": "x"},
            summary=Summary(
                counts={
                    "num_documents_train": num_unique - 20, "num_documents_validation": 20,
                    "num_tokens_train": 188_416, "num_tokens_validation": 9_911,
                },
                proofs={"token_ids_equal_reference": True},
            ),
        ),
        "continued": FakeConfig(
            files={**model, "logs/metrics.jsonl": metrics(400, 8.3, 2.1)}, learning_rate=3e-3, sequence_length=128,
            summary=Summary(counts={"steps": 400, "tokens_consumed": 819_200}, proofs={"ok": True}),
        ),
        "instructions": FakeConfig(files={"train.jsonl": "{}\n"}, summary=Summary(counts={"num_pairs_train": 300})),
        "adapter": FakeConfig(
            files={
                "adapter_config.json": '{"r": 16}', "adapter_model.safetensors": "lora",
                "logs/metrics.jsonl": metrics(200, 3.1, 0.9, seed=2),
            },
            learning_rate=2e-4, rank=16, summary=Summary(counts={"steps": 200, "tokens_consumed": 91_233}),
        ),
        "tuned": FakeConfig(
            files={**model, "generation_config.json": "{}", "README.md": "old", "logs/merge.log": "1 s"},
            summary=Summary(counts={"parameters": 2_412_000}, proofs={"logits": {"largest_difference": 3.1e-6}}),
        ),
        "evaluation": FakeConfig(
            files={
                "evaluation.json": json.dumps(evaluation()), "generations.jsonl": generations(),
                "logs/speed.json": speeds(),
            },
        ),
    }  # fmt: skip


STAGES: dict[str, tuple[str, type[Artifact], tuple[str, ...]]] = {
    "raw": ("acquire", RawCorpus, ()),
    "filtered": ("filter", Corpus, ("raw",)),
    "unique": ("dedup", Corpus, ("filtered",)),
    "corpus": ("split", Corpus, ("unique",)),
    "base": ("base_model", HfModel, ()),
    "tokens": ("binarize", TokenDataset, ("corpus",)),
    "continued": ("pretrain", HfModel, ("base", "tokens")),
    "instructions": ("instructions", InstructionSet, ("corpus",)),
    "adapter": ("lora", Adapter, ("continued", "instructions")),
    "tuned": ("export", HfModel, ("continued", "adapter")),
    "evaluation": ("evaluate", EvalReport, ("tuned", "corpus")),
}


@pytest.fixture
def build_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pipeline]:
    """Builds the fake pipeline in a store of the given name; configs of single stages may be replaced."""
    monkeypatch.setattr(Stage, "function", _function)

    def build(store_name: str = "store", **replaced: FakeConfig) -> Pipeline:
        store, artifacts = Store(tmp_path / store_name), {}
        for role, config in (configs() | replaced).items():
            name, output, inputs = STAGES[role]
            stage = Stage(name, output, revision=1, body="fake", summary="fake")
            request = Request.of(stage, config, {other: artifacts[other] for other in inputs})
            store.build(request, Runtime(store=store.root))
            artifacts[role] = output.open(store.sealed(request))
        return Pipeline(store, artifacts)

    return build


_real_function = Stage.function


def _function(stage: Stage) -> Callable[..., Any]:
    return fake_body if stage.body == "fake" else _real_function(stage)


@pytest.fixture
def pipeline_configs() -> dict[str, FakeConfig]:
    return configs()

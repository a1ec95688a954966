"""A micro Qwen2, its tokenizer, token files and pairs: sealed artifacts that a training takes seconds for."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nemo_environment
from data_contracts.artifacts import Artifact, HfModel, InstructionSet, TokenDataset
from data_contracts.files import hash_file
from data_contracts.manifest import InputReference, Manifest, Summary
from data_contracts.token_files import token_dtype, write_index
from tasks.runtime import Runtime
from tasks.training.config import LoraConfig, PretrainConfig
from tasks.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]
EOD = "<|endoftext|>"
CITIES = [
    "札幌",
    "青森",
    "盛岡",
    "仙台",
    "秋田",
    "山形",
    "福島",
    "水戸",
    "宇都宮",
    "前橋",
    "千葉",
    "横浜",
    "新潟",
    "富山",
]
MICRO = {
    "sequence_length": 32,
    "micro_batch_size": 4,
    "global_batch_size": 8,
    "max_steps": 12,
    "learning_rate": 5e-3,
    "min_learning_rate": 5e-4,
    "warmup_steps": 2,
    "precision": "fp32",
    "device": nemo_environment.DEVICE,
    "cpu_threads": 1,
    "log_every_steps": 1,
    "validate_every_steps": 5,
    "validation_batches": 2,
    "checkpoint_every_steps": 3,
}


def document(number: int) -> str:
    city = CITIES[number % len(CITIES)]
    return f"{city}は第{number}の都市である。{city}の人口は{number * 37 % 1000}万人である。冬の{city}は寒い。"


def seal(folder: Path, kind: type[Artifact], summary: Summary, inputs: dict[str, InputReference] | None = None) -> Any:
    """Writes the manifest of an artifact made by hand."""
    files = [hash_file(p, p.relative_to(folder).as_posix()) for p in sorted(folder.rglob("*")) if p.is_file()]
    manifest = Manifest(
        kind=kind.kind,
        contract_version=kind.version,
        stage="test",
        revision=1,
        key="0" * 64,
        digest=kind.content_digest(files),
        inputs=inputs or {},
        config={},
        summary=summary,
        sources=[],
        files=files,
        engine="local",
        libraries={},
        created_at=datetime.now(UTC),
        seconds=0.0,
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
    return kind.open(folder)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=[EOD], initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    inner.train_from_iterator([document(n) for n in range(200)] + ["### 指示:\n### 入力:\n### 応答:\n"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=EOD, pad_token=EOD)


@pytest.fixture(scope="session")
def make_model(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., HfModel]:
    """`make_model(**config)`: a sealed random Qwen2 of that config."""

    def make(name: str = "base", dtype: str = "float32", **changes: Any) -> HfModel:
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM

        values = {
            "vocab_size": 512,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 128,
            "tie_word_embeddings": True,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
        }
        torch.manual_seed(7)
        model = Qwen2ForCausalLM(Qwen2Config(**{**values, **changes})).to(getattr(torch, dtype))
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return seal(folder, HfModel, Summary())

    return make


@pytest.fixture(scope="session")
def base(make_model: Callable[..., HfModel]) -> HfModel:
    return make_model()


@pytest.fixture(scope="session")
def make_tokens(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TokenDataset]:
    def make(
        tokenizer_digest: str | None = None, vocabulary_size: int = 512, change: Callable[[int], int] = lambda t: t
    ) -> TokenDataset:
        folder = tmp_path_factory.mktemp("tokens")
        for split, numbers in (("train", range(200)), ("validation", range(200, 230))):
            documents = [[*tokenizer(document(n)).input_ids, tokenizer.eos_token_id] for n in numbers]
            documents = [[*map(change, d[:-1]), d[-1]] for d in documents]
            write_tokens(folder / f"{split}_text_document", documents, vocabulary_size)
        proofs = {"eod_token_id": tokenizer.eos_token_id, "vocabulary_size": vocabulary_size}
        inputs = {}
        if tokenizer_digest:
            inputs["tokenizer"] = InputReference(digest=tokenizer_digest, part="tokenizer")
        return seal(folder, TokenDataset, Summary(proofs=proofs), inputs)

    return make


@pytest.fixture(scope="session")
def tokens(make_tokens: Callable[..., TokenDataset], base: HfModel) -> TokenDataset:
    return make_tokens(base.tokenizer.digest)


def write_tokens(prefix: Path, documents: list[list[int]], vocabulary_size: int) -> None:
    dtype = token_dtype(vocabulary_size)
    prefix.with_suffix(".bin").write_bytes(np.concatenate([np.array(d) for d in documents]).astype(dtype).tobytes())
    with open(prefix.with_suffix(".idx"), "wb") as file:
        write_index(file, np.array([len(d) for d in documents]), dtype)


@pytest.fixture(scope="session")
def token_writer() -> Callable[..., None]:
    return write_tokens


@pytest.fixture(scope="session")
def instructions(tmp_path_factory: pytest.TempPathFactory) -> InstructionSet:
    folder = tmp_path_factory.mktemp("instructions")
    for split, numbers in (("train", range(60)), ("validation", range(60, 70))):
        rows = [
            {
                "prompt": f"### 指示:\n第{n}の都市は。\n\n### 応答:\n",
                "response": f"{CITIES[n % len(CITIES)]}である。",
                "document": "",
            }
            for n in numbers
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return seal(folder, InstructionSet, Summary())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", Runtime(store=tmp_path))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs jobs in this process: same code, without the seconds that a worker needs to import torch."""

    def run(
        function: str, arguments: dict[str, Any], workspace: Workspace, on_event: Callable[..., None], python: Path
    ) -> Any:
        module, _, name = function.partition(":")
        arguments = json.loads(json.dumps(arguments))

        def emit(event: str, **fields: Any) -> None:
            on_event(json.loads(json.dumps({"event": event, **fields})))

        return getattr(import_module(module), name)(**arguments, emit=emit)

    monkeypatch.setattr("tasks.training.running.run_worker", run)


@pytest.fixture(scope="session")
def nemo_python() -> Callable[[], Path]:
    """`nemo_python()`: the interpreter of backend nemo; skips where there is none."""
    return nemo_environment.nemo_python


@pytest.fixture(scope="session")
def pretrain_config() -> Callable[..., PretrainConfig]:
    return lambda **changes: PretrainConfig.model_validate({**MICRO, "expect_pretrained": False, **changes})


@pytest.fixture(scope="session")
def lora_config() -> Callable[..., LoraConfig]:
    return lambda **changes: LoraConfig.model_validate(
        {**MICRO, "sequence_length": 64, "rank": 4, "alpha": 8, **changes}
    )


class BodyProcess:
    """A stage body in a process of its own, so that it can be killed."""

    def __init__(self, spec: dict[str, Any], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        spec_path = folder / "spec.json"
        spec_path.write_text(json.dumps(spec), encoding="utf-8")
        self.metrics = Path(spec["workspace"]) / "logs" / "metrics.jsonl"
        with open(folder / "stderr.txt", "ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("body_process.py")), str(spec_path)],
                cwd=ROOT,
                stderr=stderr,
                start_new_session=True,
            )

    def wait_for_step(self, step: int, timeout_seconds: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.metrics.exists() and f'"step": {step},' in self.metrics.read_text(encoding="utf-8"):
                return
            time.sleep(0.005)
        raise AssertionError(f"step {step} was not reached, exit code {self.process.poll()}")

    def worker_pids(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children]

    def kill(self, *, worker: bool) -> list[int]:
        """SIGKILL to the body's process group and, if asked, to its worker's; the worker's pids."""
        workers = self.worker_pids()
        os.killpg(self.process.pid, signal.SIGKILL)
        for pid in workers if worker else []:
            os.killpg(pid, signal.SIGKILL)
        self.process.wait()
        return workers


@pytest.fixture
def start_body(tmp_path: Path) -> Any:
    """`start_body(function, config, workspace_folder, **inputs)` -> BodyProcess; those left over are ended.

    runtime: settings besides the store.
    """
    started: list[BodyProcess] = []

    def start(
        function: str, config: Any, folder: Path, *, runtime: dict[str, str] | None = None, **inputs: Artifact
    ) -> BodyProcess:
        spec = {
            "runtime": runtime or {},
            "function": function,
            "config": config.model_dump(mode="json"),
            "config_type": type(config).__name__,
            "workspace": str(folder),
            "inputs": {name: [value.kind, str(value.path)] for name, value in inputs.items()},
        }
        started.append(BodyProcess(spec, tmp_path / "processes"))
        return started[-1]

    yield start
    for body in started:
        if body.process.poll() is None:
            body.kill(worker=True)


@pytest.fixture(scope="session")
def content_hashes() -> Callable[[Path], dict[str, str]]:
    """Hashes of every file that is neither scratch nor a log."""

    def hashes(folder: Path) -> dict[str, str]:
        paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        names = {p.relative_to(folder).as_posix(): p for p in paths}
        return {
            name: hashlib.sha256(path.read_bytes()).hexdigest()
            for name, path in names.items()
            if not name.startswith((".scratch/", "logs/"))
        }

    return hashes

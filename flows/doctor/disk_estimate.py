"""How much disk a recipe takes, from nothing to the delivery: an estimate on the safe side."""

from __future__ import annotations

import re
from glob import glob
from pathlib import Path
from typing import NamedTuple

from flows.recipes import PipelineConfig
from tasks.acquire.config import HuggingFaceSource, LlmJpSource, LocalSource, SampleSource
from tasks.models.config import TinyConfig

UNPACKED = {".gz": 3.5, ".zst": 4.0, ".parquet": 3.0}
"""Bytes of JSON lines for a byte of such a file. LLM-JP's ja_wiki: 3.4 for `.gz`."""
CORPUS_STAGES = 1.2
"""Artifacts of acquire, filter, dedup and split with their ledgers, for a byte of JSON lines; measured 1.12."""
TOKENS = 1.3
"""Token files of four bytes a token, for a byte of JSON lines: 0.55 tokens a character, 1.8 bytes a character."""
DOCUMENT_BYTES = 10_000
SAMPLE_DOCUMENT_BYTES = 2_000
KNOWN_FOLDERS = {"ja/ja_wiki": 15 * 384_020_873}
"""Compressed bytes of folders of LLM-JP corpus v3: files times the size of the largest."""
MODEL_COPIES = 3
"""Base, continued, merged; what is delivered is one more."""
CHECKPOINT_BYTES = 12
"""A parameter in a checkpoint: fp32 weight and two moments of AdamW."""
NUM_PARAMETERS = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)([BM])(?![A-Za-z])", re.IGNORECASE)


class Estimate(NamedTuple):
    """Bytes by what takes them, and what could not be estimated."""

    parts: dict[str, int]
    unknown: tuple[str, ...]

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def disk_estimate(config: PipelineConfig) -> Estimate:
    """Bytes that a run from an empty store needs at its fullest. Unreadable paths count nothing, and are unknown."""
    parts, unknown = {}, []
    source = _source_bytes(config)
    if source is None:
        unknown.append("source")
    else:
        downloaded, text = source
        later = min(text, (config.source.max_documents or text) * DOCUMENT_BYTES)
        parts |= {
            "source": downloaded,
            "corpus": int(text * 0.3 + later * CORPUS_STAGES),
            "tokens": int(later * TOKENS),
        }
    weights = _weights(config)
    if weights is None:
        unknown.append("model")
    else:
        parts |= _model_parts(config, *weights)
    return Estimate(parts, tuple(unknown))


def _model_parts(config: PipelineConfig, num_parameters: int, num_bytes: int) -> dict[str, int]:
    copies = MODEL_COPIES + 1 + (config.model.source.startswith("hf://"))
    if "nemo" in (config.pretrain.backend, config.lora.backend):
        copies += 2  # NeMo's format of the base, and of the continued model that LoRA starts from
    # One more than is kept lies there while it is written.
    checkpoints = (config.pretrain.keep_checkpoints + 1) * num_parameters * CHECKPOINT_BYTES
    return {"models": copies * num_bytes, "checkpoints": checkpoints}


def _source_bytes(config: PipelineConfig) -> tuple[int, int] | None:
    """Bytes that are fetched or made, and bytes of JSON lines in them; None where they cannot be known offline."""
    source = config.source
    if isinstance(source, SampleSource):
        text = source.num_documents * SAMPLE_DOCUMENT_BYTES
        return text, text
    if isinstance(source, LocalSource):
        sizes = _local_sizes(source.path)
        return (0, int(sum(size * UNPACKED.get(suffix, 1.0) for suffix, size in sizes))) if sizes else None
    if isinstance(source, LlmJpSource) and all(folder.path in KNOWN_FOLDERS for folder in source.folders):
        packed = sum(KNOWN_FOLDERS[folder.path] for folder in source.folders)
        return packed, int(packed * UNPACKED[".gz"])
    if isinstance(source, HuggingFaceSource) and source.max_documents:
        return 0, source.max_documents * DOCUMENT_BYTES  # streamed
    return None


def _local_sizes(path: Path) -> list[tuple[str, int]]:
    """Last suffix and bytes of each readable file of a source."""
    from tasks.acquire.reading import SUFFIXES

    paths = path.rglob("*") if path.is_dir() else map(Path, glob(str(path), recursive=True))
    return [(p.suffix, p.stat().st_size) for p in paths if p.name.endswith(SUFFIXES) and p.is_file()]


def _weights(config: PipelineConfig) -> tuple[int, int] | None:
    """Parameters of the base model and bytes of its weights; a name such as `Qwen2.5-0.5B` is believed."""
    model = config.model
    if model.source == "tiny":
        count = _tiny_parameters(model.tiny)
        return count, 4 * count
    if model.path is not None:
        size = sum(p.stat().st_size for p in model.path.glob("*.safetensors"))
        return (size // 2, size) if size else None
    found = NUM_PARAMETERS.findall(model.source)
    if not found:
        return None
    number, unit = found[-1]
    count = int(float(number) * (1e9 if unit.upper() == "B" else 1e6))
    return count, 2 * count


def _tiny_parameters(tiny: TinyConfig) -> int:
    attention = tiny.hidden_size**2 * (2 + 2 * tiny.num_key_value_heads / tiny.num_heads)
    layer = attention + 3 * tiny.hidden_size * tiny.intermediate_size
    embeddings = tiny.vocabulary_size * tiny.hidden_size * (1 if tiny.tie_word_embeddings else 2)
    return int(tiny.num_layers * layer + embeddings)

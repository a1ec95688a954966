"""The stages of the pipeline, in order. Bump a `revision` when the same inputs give other bytes; see CHANGELOG."""

from __future__ import annotations

from data_contracts.artifacts import (
    Adapter,
    Corpus,
    Delivery,
    EvalReport,
    HfModel,
    InstructionSet,
    NemoCheckpoint,
    RawCorpus,
    TokenDataset,
)
from tasks.stage import Stage

JOBS = ("local", "dask")
"""Engines of a stage whose work is jobs of `map_jobs`."""
DOWNLOAD_RETRIES = 3
"""Of a stage that reads from the network; its requests have tries of their own before that."""
WORKER_RETRIES = 2
"""Of a stage with worker processes: one that ran out of memory every time is not worth more."""

ACQUIRE = Stage(
    "acquire",
    RawCorpus,
    revision=2,
    body="tasks.acquire.acquire:acquire",
    outside="tasks.acquire.acquire:outside_digests",
    summary="documents as the source gave them; unreadable lines in quarantine",
    resumable=True,
    retries=DOWNLOAD_RETRIES,
    engines=JOBS,
)
FILTER = Stage(
    "filter",
    Corpus,
    revision=2,
    body="tasks.curation.filtering:filter_documents",
    outside="tasks.curation.outside_files:outside_digests",
    summary="normalised documents that pass every filter; ledgers of each removed one and each edit",
    resumable=True,
    retries=WORKER_RETRIES,
    engines=(*JOBS, "curator", "cudf"),
)
DEDUP = Stage(
    "dedup",
    Corpus,
    revision=2,
    body="tasks.curation.deduplication:remove_duplicates",
    outside="tasks.curation.references:outside_digests",
    summary="one document of each duplicate cluster, decided by exact Jaccard",
    retries=WORKER_RETRIES,
    engines=(*JOBS, "cudf"),
)
SPLIT = Stage(
    "split",
    Corpus,
    revision=2,
    body="tasks.curation.splitting:split_documents",
    summary="train and validation; near-duplicates never on both sides",
    retries=WORKER_RETRIES,
    engines=(*JOBS, "cudf"),
)
BASE_MODEL = Stage(
    "base_model",
    HfModel,
    revision=1,
    body="tasks.models.importing:import_base",
    outside="tasks.models.importing:outside_digests",
    summary="the model to continue, with the proof that its weights are loaded",
    retries=DOWNLOAD_RETRIES,
)
NEMO_CHECKPOINT = Stage(
    "nemo_checkpoint",
    NemoCheckpoint,
    revision=1,
    body="tasks.models.nemo_importing:import_nemo",
    summary="the base model in NeMo's format, every bit of it proved; only where backend nemo continues it",
    retries=WORKER_RETRIES,
)
BINARIZE = Stage(
    "binarize",
    TokenDataset,
    revision=2,
    body="tasks.binarize:binarize",
    summary="Megatron .bin/.idx, every token accounted for",
    resumable=True,
    retries=WORKER_RETRIES,
    engines=JOBS,
)
PRETRAIN = Stage(
    "pretrain",
    HfModel,
    revision=1,
    body="tasks.training.pretraining:pretrain",
    summary="continual pretraining; killed and resumed equals never killed",
    resumable=True,
    retries=WORKER_RETRIES,
)
INSTRUCTIONS = Stage(
    "instructions",
    InstructionSet,
    revision=1,
    body="tasks.training.instructions:make_instructions",
    outside="tasks.training.instructions:outside_digests",
    summary="prompt and response pairs for LoRA, and the documents they come from",
)
LORA = Stage(
    "lora",
    Adapter,
    revision=1,
    body="tasks.training.tuning:tune",
    summary="a peft adapter trained on the responses only",
    resumable=True,
    retries=WORKER_RETRIES,
)
EXPORT = Stage(
    "export",
    HfModel,
    revision=1,
    body="tasks.models.merging:merge_adapter",
    summary="adapter merged in fp32; logits, ties and config proved",
    retries=WORKER_RETRIES,
)
EVALUATE = Stage(
    "evaluate",
    EvalReport,
    revision=1,
    body="tasks.evaluate.evaluation:evaluate",
    summary="base, continued and tuned side by side",
    resumable=True,
    retries=WORKER_RETRIES,
)
DELIVER = Stage(
    "deliver",
    Delivery,
    revision=1,
    body="tasks.deliver.delivery:deliver",
    summary="model, adapter, card, checksums, evaluation and report.html",
)

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        ACQUIRE, FILTER, DEDUP, SPLIT, BASE_MODEL, BINARIZE, PRETRAIN, INSTRUCTIONS, LORA, EXPORT, EVALUATE, DELIVER
    )
}  # fmt: skip
"""What every run goes through."""

ALL_STAGES: dict[str, Stage] = {**STAGES, NEMO_CHECKPOINT.name: NEMO_CHECKPOINT}
"""With those that only some runs have: `nemo_checkpoint` comes before `pretrain` of backend nemo."""

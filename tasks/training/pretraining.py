"""The stage that continues a base model on the tokens of the corpus."""

from __future__ import annotations

import json
from typing import Any

from data_contracts.artifacts import HfModel, NemoCheckpoint, TokenDataset
from data_contracts.errors import DamagedArtifact, DataError
from data_contracts.manifest import Summary
from tasks.training.backends import TrainingJob
from tasks.training.config import PretrainConfig
from tasks.training.running import run_training
from tasks.workspace import Workspace

HINT = "binarize the corpus with the tokenizer of this base model"


def pretrain(
    config: PretrainConfig,
    workspace: Workspace,
    base: HfModel,
    tokens: TokenDataset,
    nemo_checkpoint: NemoCheckpoint | None = None,
) -> Summary:
    """Leaves a Hugging Face folder like the base's with trained weights, `training.json` and `logs/metrics.jsonl`.

    The weights are trained in fp32 and saved in the dtype that the base's config declares; every other file is the
    base's, byte for byte. nemo_checkpoint: the base for backend nemo, which makes one in its scratch where there is
    none. Raises DataError if the tokens were made by another tokenizer, UnprovenWeightsError, ModelError,
    TrainingDiverged, and WorkerLost (worth a retry) for a worker that was stopped.
    """
    proofs = tokens.manifest.summary.proofs
    _check_tokenizer(base, tokens, proofs)
    job = TrainingJob(
        task="pretrain",
        pretrain=config,
        model=base.path.resolve(),
        train=tokens.prefix("train").resolve(),
        validation=tokens.prefix("validation").resolve(),
        eod_token_id=_proof(tokens, proofs, "eod_token_id"),
        nemo_checkpoint=nemo_checkpoint.path.resolve() if nemo_checkpoint else None,
        output=workspace.path.resolve(),
        scratch=workspace.scratch.resolve(),
    )
    return run_training(job, workspace, project=workspace.runtime.wandb.project)


def _check_tokenizer(base: HfModel, tokens: TokenDataset, proofs: dict[str, Any]) -> None:
    for reference in tokens.manifest.inputs.values():
        if reference.part == "tokenizer" and reference.digest != base.tokenizer.digest:
            raise DataError(
                f"`{tokens.path}`: made with tokenizer {reference.digest[:12]}…, the base model has "
                f"{base.tokenizer.digest[:12]}…",
                hint=HINT,
            )
    size = _proof(tokens, proofs, "vocabulary_size")
    model_size = json.loads((base.path / "config.json").read_text(encoding="utf-8")).get("vocab_size")
    if model_size is not None and size > model_size:
        raise DataError(
            f"`{tokens.path}`: made with a vocabulary of {size} tokens, the model has {model_size}", hint=HINT
        )


def _proof(tokens: TokenDataset, proofs: dict[str, Any], name: str) -> int:
    try:
        return int(proofs[name])
    except KeyError:
        raise DamagedArtifact(
            f"`{tokens.path}`: its manifest does not state `{name}`", hint="rebuild the binarize stage"
        ) from None

"""The proof that a model folder holds the weights it claims: complete, loadable, better than chance if pretrained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedModel

from data_contracts.errors import ModelError, UnprovenWeightsError
from tasks.evaluate.scoring import score_texts
from tasks.models.folders import saved_dtype
from tasks.models.loading import context_length, embedding_rows, is_tied, load_model, load_tokenizer, num_parameters
from tasks.models.probe_text import ENGLISH_SENTENCES, JAPANESE_SENTENCES

PRETRAINED_MARGIN_NATS = 1.0
"""How far below ln(vocabulary) the loss of a pretrained model must lie, in Japanese or in English."""
RANDOM_MARGIN_NATS = 0.5
"""A loss this close to ln(vocabulary) is called random."""
DIGITS = 4


def prove(folder: Path, *, must_be_pretrained: bool) -> tuple[dict[str, int], dict[str, Any]]:
    """Counts and proofs of a model folder, computed in fp32 on fixed sentences.

    Raises ModelError for a model or tokenizer that cannot be used, UnprovenWeightsError for weights that are incomplete
    or, where pretrained ones are due, look random.
    """
    model = load_model(folder, dtype="float32")
    tokenizer = load_tokenizer(folder)
    _check_tokenizer(folder, model, tokenizer)
    vocabulary_size = embedding_rows(model)
    losses = probe_losses(model, tokenizer)
    if must_be_pretrained:
        refuse_random(folder, losses, vocabulary_size)
    counts = {
        "parameters": num_parameters(model),
        "vocabulary": vocabulary_size,
        "tokenizer_tokens": len(tokenizer),
        "context_length": context_length(model),
    }
    proofs = {
        "architecture": type(model).__name__,
        "dtype": saved_dtype(folder),
        "tied_embeddings": is_tied(model),
        "japanese_loss": round(losses["japanese"], DIGITS),
        "english_loss": round(losses["english"], DIGITS),
        "random_loss": round(math.log(vocabulary_size), DIGITS),
        "weights": verdict(losses, vocabulary_size),
        "must_be_pretrained": must_be_pretrained,
    }
    return counts, proofs


def probe_losses(model: PreTrainedModel, tokenizer: Any) -> dict[str, float]:
    """Nats per token on the fixed Japanese and English sentences."""
    texts = {"japanese": JAPANESE_SENTENCES, "english": ENGLISH_SENTENCES}
    length = min(256, context_length(model))
    return {name: score_texts(model, tokenizer, texts[name], sequence_length=length).loss for name in texts}


def refuse_random(folder: Path, losses: dict[str, float], vocabulary_size: int) -> None:
    """Raises UnprovenWeightsError unless one language's loss is clearly below that of random weights."""
    bound = math.log(vocabulary_size) - PRETRAINED_MARGIN_NATS
    if not min(losses.values()) < bound:  # a NaN is refused too
        raise UnprovenWeightsError(
            f"`{folder}`: the weights look random: loss {losses['japanese']:.3f} on Japanese and "
            f"{losses['english']:.3f} on English, expected below ln({vocabulary_size}) - {PRETRAINED_MARGIN_NATS} "
            f"= {bound:.3f}",
            hint="download the model again; for a model that is random on purpose set expect_pretrained=false",
        )


def verdict(losses: dict[str, float], vocabulary_size: int) -> str:
    """`pretrained`, `random`, or `unclear`, by the losses alone."""
    random_loss = math.log(vocabulary_size)
    if min(losses.values()) < random_loss - PRETRAINED_MARGIN_NATS:
        return "pretrained"
    return "random" if max(abs(loss - random_loss) for loss in losses.values()) < RANDOM_MARGIN_NATS else "unclear"


def _check_tokenizer(folder: Path, model: PreTrainedModel, tokenizer: Any) -> None:
    """Every id has an embedding; and tokenizer.json alone, as other engines read it, gives the same ids."""
    vocabulary_size = embedding_rows(model)
    largest = max(tokenizer.get_vocab().values())
    if largest >= vocabulary_size:
        raise ModelError(
            f"`{folder}`: its tokenizer has ids up to {largest}, its embedding has {vocabulary_size} rows",
            hint="tokenizer and weights do not belong together; save them from one model",
        )
    if not (folder / "tokenizer.json").is_file():
        return
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in JAPANESE_SENTENCES + ENGLISH_SENTENCES:
        if plain.encode(text, add_special_tokens=False).ids != tokenizer.encode(text, add_special_tokens=False):
            raise ModelError(
                f"`{folder}`: tokenizer.json and transformers split `{text}` differently",
                hint="transformers overrides this tokenizer by the model's type; save it again with this transformers",
            )

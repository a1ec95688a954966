"""Tokenizers: the reference that defines the ids, and the encoders that make them in bulk."""

from __future__ import annotations

import json
import os
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from data_contracts.errors import ModelError
from tasks.binarizing.probes import PROBES

EncoderName = Literal["auto", "fastokens", "tokenizers"]


class Reference(NamedTuple):
    """The Hugging Face tokenizer of a model folder, which says what the right ids are.

    is_control: (vocabulary_size,) whether an id is that of a control token.
    """

    tokenizer: Any
    vocabulary_size: int
    eod_token_id: int
    eod_token: str
    is_control: np.ndarray

    def ids(self, text: str) -> np.ndarray:
        """Token ids of one text, (its tokens,), uint32, without any token that the text does not hold."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.uint32)


class Encoder(Protocol):
    """Makes ids in bulk; safe to call from several threads, each call uses one core."""

    name: str

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts one behind the other, (tokens,) uint32, and where each begins and ends, (texts + 1,)."""
        ...


class Chosen(NamedTuple):
    """An encoder, and why it is this one."""

    encoder: Encoder
    reason: str


def load_reference(folder: Path, allow_control_tokens: bool) -> Reference:
    """The reference tokenizer of a model folder, set so that text cannot become control tokens unless that is allowed.

    Raises ModelError if it has no `tokenizer.json`, or no end-of-text token.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(
            f"`{folder}`: no tokenizer.json, expected a fast tokenizer",
            hint="save it once with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`",
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = not allow_control_tokens
    added = tokenizer.get_added_tokens_decoder()
    eod = _eod_token(folder, {token.content for token in added.values()})
    eod_id = tokenizer.token_to_id(eod) if eod else None
    if eod is None or eod_id is None:
        raise ModelError(
            f"`{folder}`: the tokenizer names {eod!r} as end-of-text token, expected one of its vocabulary",
            hint="set `eos_token` in its tokenizer_config.json",
        )
    # Ids of added tokens may leave gaps, so that the count of tokens is not always one above the last id.
    vocabulary_size = max(tokenizer.get_vocab_size(with_added_tokens=True), *(number + 1 for number in added), 0)
    is_control = np.zeros(vocabulary_size, dtype=bool)
    is_control[[number for number, token in added.items() if token.special]] = True
    return Reference(tokenizer, vocabulary_size, eod_id, eod, is_control)


def _eod_token(folder: Path, added: set[str]) -> str | None:
    """`<|endoftext|>` where the vocabulary has it (Qwen's chat models name another `eos_token`), else `eos_token`."""
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    added |= {token["content"] for token in settings.get("added_tokens_decoder", {}).values()}
    if "<|endoftext|>" in added:
        return "<|endoftext|>"
    eos = settings.get("eos_token")
    return eos["content"] if isinstance(eos, dict) else eos


def choose_encoder(wanted: EncoderName, folder: Path, allow_control_tokens: bool, reference: Reference) -> Chosen:
    """`auto` is fastokens where it loads the tokenizer and gives the reference's ids for every probe, else tokenizers.

    Raises ModelError when fastokens is asked for by name and cannot do that.
    """
    if wanted == "tokenizers":
        return Chosen(TokenizersEncoder(reference), "the config asks for it")
    encoder = _fastokens_or_objection(folder, allow_control_tokens, reference)
    if not isinstance(encoder, str):
        return Chosen(encoder, "it gives the reference's ids for every probe text")
    if wanted == "fastokens":
        raise ModelError(
            f"`{folder}`: fastokens cannot encode for this tokenizer: {encoder}; expected the reference's ids",
            hint="set `encoder` to `tokenizers`, or to `auto`, which then takes it",
        )
    return Chosen(TokenizersEncoder(reference), f"fastokens cannot: {encoder}")


def load_encoder(name: str, folder: Path, allow_control_tokens: bool, reference: Reference) -> Encoder:
    """The encoder that was chosen under that name, in another process."""
    if name == FastokensEncoder.name:
        return FastokensEncoder(folder, allow_control_tokens)
    return TokenizersEncoder(reference)


def _fastokens_or_objection(folder: Path, allow_control_tokens: bool, reference: Reference) -> FastokensEncoder | str:
    try:
        encoder = FastokensEncoder(folder, allow_control_tokens)
    except ImportError:
        return "the package is not installed"
    except ValueError as error:
        return str(error)
    specials = [token.content for token in reference.tokenizer.get_added_tokens_decoder().values()]
    texts = [*PROBES, *(f"前{content}後 {content}" for content in specials)]
    ids, offsets = encoder.encode(texts)
    for number, text in enumerate(texts):
        if not np.array_equal(ids[offsets[number] : offsets[number + 1]], reference.ids(text)):
            return f"its ids differ from the reference's for the probe text {text[:40]!r}"
    return encoder


class FastokensEncoder:
    """fastokens on one thread a call; raises ValueError for a kind of tokenizer that it does not know."""

    name = "fastokens"

    def __init__(self, folder: Path, allow_control_tokens: bool) -> None:
        # Its own pool of threads would take every core, whatever the number of workers; it has no other switch.
        os.environ["FASTOKENS_BPE_THREADS"] = "1"
        import fastokens

        self._tokenizer = fastokens.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._split_special_tokens = not allow_control_tokens

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = self._tokenizer.encode_batch_flat(texts, False, split_special_tokens=self._split_special_tokens)
        return np.frombuffer(ids, "<u4"), np.frombuffer(offsets, "<u8").astype(np.int64)


class TokenizersEncoder:
    """Hugging Face tokenizers, text by text: a batch would take every core."""

    name = "tokenizers"

    def __init__(self, reference: Reference) -> None:
        self._tokenizer = reference.tokenizer

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids = [self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids for text in texts]
        offsets = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum([len(i) for i in ids], out=offsets[1:])
        return np.fromiter(chain.from_iterable(ids), np.uint32, count=offsets[-1]), offsets

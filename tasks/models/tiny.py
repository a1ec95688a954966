"""The tiny base model: Qwen2 architecture, random weights from a seed, a tokenizer trained on the bundled sample."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

from data_contracts.errors import ModelError
from tasks.models.config import TinyConfig
from tasks.models.folders import write_json

END_TOKEN = "<|endoftext|>"  # noqa: S105 - a vocabulary entry, no secret
CONTROL_TOKENS = (END_TOKEN, "<|im_start|>", "<|im_end|>")

# Qwen2's own split of text. It must be exactly this one: transformers 5 rebuilds the pre-tokenizer of every `qwen2`
# folder from its code and ignores another one in tokenizer.json.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# While training, kanji, hiragana and katakana are parted from each other and from what stands before them, so that no
# merge crosses a change of script. Otherwise a name and the particle behind it become one token in running text, and
# the name alone, as an answer, another one.
SCRIPT_SPLIT = r"\p{Han}+|\p{Hiragana}+|[\p{Katakana}ー]+|" + QWEN2_SPLIT.replace(
    r"\p{L}+", r"(?:(?![\p{Han}\p{Hiragana}\p{Katakana}ー])\p{L})+"
)


def make_tiny(config: TinyConfig, folder: Path) -> None:
    """Writes the model folder; equal configs give equal bytes.

    Raises ModelError when the sample has too little text for the vocabulary size.
    """
    from tasks.acquire.sample import generate

    sample = generate(config.tokenizer_documents, config.tokenizer_seed)
    texts = (d.text for d in sample.documents() if d.split == "train" and not d.fault)
    save_tokenizer(train_tokenizer(texts, config.vocabulary_size), config, folder)
    model = random_model(config)
    model.save_pretrained(folder)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Tokenizer:
    """A byte-level BPE tokenizer of that many tokens, the control tokens first. Raises ModelError for fewer."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer = _tokenizer(models.BPE(), SCRIPT_SPLIT)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=[AddedToken(token, special=True) for token in CONTROL_TOKENS],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if (found := tokenizer.get_vocab_size()) != vocabulary_size:
        raise ModelError(
            f"`vocabulary_size`: the sample's text fills {found} tokens, expected {vocabulary_size}",
            hint="lower vocabulary_size or raise tokenizer_documents",
        )
    tokenizer.pre_tokenizer = _split(QWEN2_SPLIT)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, config: TinyConfig, folder: Path) -> None:
    """Writes tokenizer.json and a tokenizer_config.json that every transformers version reads as a fast tokenizer."""
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
            "eos_token": END_TOKEN,
            "model_max_length": config.max_position_embeddings,
            "pad_token": END_TOKEN,
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def random_model(config: TinyConfig) -> Qwen2ForCausalLM:
    """The untrained fp32 model; its weights depend on the config alone."""
    end = CONTROL_TOKENS.index(END_TOKEN)
    torch.manual_seed(config.seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config.vocabulary_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_key_value_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_position_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_theta},
            tie_word_embeddings=config.tie_word_embeddings,
            initializer_range=config.initializer_range,
            bos_token_id=None,
            eos_token_id=end,
            pad_token_id=None,  # a padding id would freeze the input embedding of the token that ends every document
        )
    )
    model.generation_config = GenerationConfig(do_sample=False, eos_token_id=end, pad_token_id=end)
    return model


def _tokenizer(model: models.BPE, split: str) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _split(split)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _split(pattern: str) -> pre_tokenizers.Sequence:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )

"""Losses of models whose losses are known, and laws that any batching must keep."""

import math

import pytest
import torch

from tasks.evaluate.scoring import Row, TextScore, encode, negative_log_likelihoods, score_texts, windows
from tasks.models.loading import load_model, load_tokenizer

TEXTS = ["富士山は日本で一番高い山である。", "It is.", "🗾", "静岡県と山梨県にまたがる。" * 9]


@pytest.fixture(scope="module")
def random_model(random_folder):
    return load_model(random_folder), load_tokenizer(random_folder)


def test_uniform_model_has_the_loss_of_its_vocabulary_and_bits_per_character_by_hand(uniform_folder):
    model, tokenizer = load_model(uniform_folder), load_tokenizer(uniform_folder)
    score = score_texts(model, tokenizer, TEXTS, sequence_length=32, context_tokens=8)
    num_tokens = sum(len(tokenizer.encode(text)) for text in TEXTS)
    assert (score.num_tokens, score.num_characters, score.num_documents) == (num_tokens, sum(map(len, TEXTS)), 4)
    assert score.loss == pytest.approx(math.log(320), rel=1e-6)
    assert score.perplexity == pytest.approx(320, rel=1e-5)
    assert score.bits_per_character == pytest.approx(num_tokens * math.log2(320) / sum(map(len, TEXTS)), rel=1e-6)


def test_result_equals_one_text_at_a_time_by_plain_transformers(random_model):
    model, tokenizer = random_model
    expected = 0.0
    for text in TEXTS:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer.encode(text)]])
        with torch.inference_mode():
            expected += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    assert score_texts(model, tokenizer, TEXTS, sequence_length=128).nats == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 40, 300, 100_000])
def test_loss_does_not_depend_on_the_batch_size_or_the_order(random_model, batch_tokens):
    model, tokenizer = random_model
    reference = score_texts(model, tokenizer, TEXTS, sequence_length=48, context_tokens=16, batch_tokens=48)
    found = score_texts(model, tokenizer, TEXTS[::-1], sequence_length=48, context_tokens=16, batch_tokens=batch_tokens)
    assert found.loss == pytest.approx(reference.loss, abs=1e-5)
    assert found.num_tokens == reference.num_tokens


@pytest.mark.parametrize(("length", "sequence", "context"), [(2, 5, 0), (6, 5, 4), (7, 5, 4), (100, 7, 3), (100, 9, 0)])
def test_windows_score_each_token_once_and_never_exceed_the_length(length, sequence, context):
    ids = list(range(length))
    rows = windows(ids, sequence, context)
    assert [token for row in rows for token in row.ids[row.num_given :]] == ids[1:]
    assert all(len(row.ids) - 1 <= sequence and row.num_given >= 1 for row in rows)
    assert all(row.num_given == context + 1 for row in rows[1:])
    assert windows([0], sequence, context) == []


def test_given_tokens_are_not_scored(random_model):
    model, _ = random_model
    whole, first, rest = negative_log_likelihoods(
        model, [Row([0, 5, 6, 7], 1), Row([0, 5, 6], 1), Row([0, 5, 6, 7], 3)], batch_tokens=100
    )
    assert whole == pytest.approx(first + rest, rel=1e-6)


def test_written_control_tokens_stay_text(random_model):
    _, tokenizer = random_model
    assert encode(tokenizer, ["<|endoftext|>"])[0] != [tokenizer.eos_token_id]
    assert encode(tokenizer, []) == []


def test_perplexity_of_a_hopeless_model_is_a_number():
    assert math.isfinite(TextScore(1e9, 10, 10, 1).perplexity)

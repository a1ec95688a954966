"""Cloze rankings, greedy continuations and exact match, on models that behave as the test decides."""

import pytest
import torch

from tasks.evaluate.cloze import measure_cloze, rank
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.generating import GenerationClock, continue_prompts, measure_questions
from tasks.evaluate.scoring import encode
from tasks.models.loading import load_model, load_tokenizer

QUESTIONS = [
    {"prompt": "日本で一番高い山は", "answer": "富士山", "choices": ["北岳", "阿蘇山", "立山"]},
    {"prompt": "静岡県の県庁所在地は", "answer": "静岡市", "choices": ["甲府市", "津市"]},
]
SETTINGS = EvaluateConfig(answer_tokens=6, generation_batch_size=2, num_examples=1)


@pytest.fixture(scope="module")
def random_model(random_folder):
    return load_model(random_folder), load_tokenizer(random_folder)


def test_cloze_of_a_uniform_model_is_wrong_where_options_tie_and_chance_is_stated(uniform_folder):
    model, tokenizer = load_model(uniform_folder), load_tokenizer(uniform_folder)
    tie = [{"prompt": "山は", "answer": "a", "choices": ["b", "c", "d"]}]
    found = measure_cloze(model, tokenizer, tie)
    assert found is not None and found["accuracy"] == found["accuracy_unnormalised"] == 0 and found["chance"] == 0.25
    both = measure_cloze(model, tokenizer, QUESTIONS)
    assert both is not None and both["chance"] == pytest.approx((1 / 4 + 1 / 3) / 2, abs=1e-6)
    assert measure_cloze(model, tokenizer, []) is None


def test_option_scores_are_the_log_likelihoods_by_plain_transformers(random_model):
    model, tokenizer = random_model
    for question, ranking in zip(QUESTIONS, rank(model, tokenizer, QUESTIONS, 4096), strict=True):
        totals = []
        for option in [question["answer"], *question["choices"]]:
            ids = torch.tensor([[tokenizer.eos_token_id, *encode(tokenizer, [question["prompt"] + option])[0]]])
            with torch.inference_mode():
                totals.append(-float(model(ids, labels=ids).loss) * (ids.shape[1] - 1))
        differences = [total - totals[0] for total in totals]
        assert [s - ranking.sums[0] for s in ranking.sums] == pytest.approx(differences, abs=1e-3)
        assert ranking.per_character == pytest.approx(
            [s / len(o) for s, o in zip(ranking.sums, ranking.options, strict=True)]
        )


def test_accuracy_counts_the_questions_whose_answer_ranks_first(random_model):
    model, tokenizer = random_model
    ranking = rank(model, tokenizer, QUESTIONS[:1], 4096)[0]
    best = ranking.options[max(range(4), key=lambda i: ranking.per_character[i])]
    right = {**QUESTIONS[0], "answer": best, "choices": [o for o in ranking.options if o != best]}
    wrong = {**QUESTIONS[0], "answer": next(o for o in ranking.options if o != best), "choices": [best]}
    found = measure_cloze(model, tokenizer, [right, wrong, wrong, wrong], num_examples=1)
    assert found is not None and found["accuracy"] == 0.25
    assert found["examples"] == [{"prompt": QUESTIONS[0]["prompt"], "expected": best, "answer": best}]


def test_continuations_are_greedy_and_do_not_depend_on_their_batch(random_model):
    model, tokenizer = random_model
    prompts = ["富士山は", "It is", "日本で一番高い山である。標高は", ""]
    clock = GenerationClock()
    together = continue_prompts(model, tokenizer, prompts, 8, 4, clock)
    assert together == continue_prompts(model, tokenizer, prompts, 8, 1, GenerationClock())
    assert clock.num_tokens > 0 and clock.tokens_per_second > 0
    ids = tokenizer.encode(prompts[0])
    with torch.inference_mode():
        for _ in range(8):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break
    assert together[0] == tokenizer.decode(ids[len(tokenizer.encode(prompts[0])) :], skip_special_tokens=True)


def test_prompt_longer_than_the_context_keeps_its_end(random_model):
    model, tokenizer = random_model
    text = continue_prompts(model, tokenizer, ["山" * 500], 4, 1, GenerationClock())
    assert text == continue_prompts(model, tokenizer, ["山" * 900], 4, 1, GenerationClock())


def test_exact_match_compares_whole_answers(random_model):
    model, tokenizer = random_model
    answers = continue_prompts(model, tokenizer, ["富士山は", "静岡県"], 6, 2, GenerationClock())
    questions = [
        {"prompt": "富士山は", "response": f" {answers[0].strip()}\n"},
        {"prompt": "静岡県", "response": answers[1].strip()[:1] or "山"},
    ]
    found = measure_questions(model, tokenizer, questions, SETTINGS, GenerationClock())
    assert found is not None and found["exact_match"] == 0.5 and found["num_questions"] == 2
    expected = answers[0].strip()
    assert found["examples"] == [{"prompt": "富士山は", "expected": expected, "answer": expected}]
    assert measure_questions(model, tokenizer, [], SETTINGS, GenerationClock()) is None

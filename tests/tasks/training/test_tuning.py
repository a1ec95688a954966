"""LoRA: loss on responses alone, an adapter in peft's format, no pair lost silently."""

from __future__ import annotations

import json

import pytest

from data_contracts.errors import ConfigError, DataError
from tasks.training.tuning import tune

pytestmark = pytest.mark.usefixtures("in_process")


def test_adapter_loads_in_peft_and_changes_the_model(lora_config, workspace, base, instructions):
    summary = tune(lora_config(max_steps=40, learning_rate=2e-2, base_name="org/base"), workspace, base, instructions)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base.path, local_files_only=True)
    ids = torch.arange(10).unsqueeze(0)
    before = model(input_ids=ids).logits.detach()
    tuned = PeftModel.from_pretrained(model, str(workspace.path))
    assert not torch.allclose(before, tuned(input_ids=ids).logits)
    losses = [loss for _, loss in summary.proofs["validation_losses"]]
    assert losses[-1] < losses[0] - 0.2
    assert summary.counts["parameters_trained"] < summary.counts["parameters"] / 2


def test_adapter_config_is_the_same_everywhere(lora_config, workspace, base, instructions):
    tune(lora_config(max_steps=1, base_name="org/base"), workspace, base, instructions)
    text = (workspace.path / "adapter_config.json").read_text()
    config = json.loads(text)
    assert config["base_model_name_or_path"] == "org/base" and str(base.path) not in text
    assert config["target_modules"] == sorted(config["target_modules"])
    assert (config["r"], config["lora_alpha"], config["peft_type"], config["task_type"]) == (4, 8, "LORA", "CAUSAL_LM")
    assert {p.name for p in workspace.path.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "training.json", "logs", ".scratch"
    }  # fmt: skip


def test_step_0_loss_equals_plain_transformers_on_the_responses(lora_config, workspace, base, instructions):
    proofs = tune(lora_config(max_steps=1), workspace, base, instructions).proofs
    assert proofs["step0_loss"] == pytest.approx(proofs["step0_reference_loss"], abs=1e-4)


def test_only_response_tokens_and_the_end_bear_loss(instructions, tokenizer):
    from tasks.training.batches import IGNORED, PairBatches, read_pairs

    pairs, _ = read_pairs(instructions.path / "train.jsonl", tokenizer, 64)
    rows = [json.loads(line) for line in (instructions.path / "train.jsonl").read_text().splitlines()]
    responses = {row["response"] for row in rows}
    data = PairBatches(pairs, [], 4, 8, 0, seed=1)
    for batch in data.micro_batches(1) + data.micro_batches(9):
        for ids, targets in zip(batch.input_ids, batch.targets, strict=True):
            trained = targets[targets != IGNORED].tolist()
            assert trained[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(trained[:-1]) in responses
            places = (targets != IGNORED).nonzero().flatten().tolist()
            assert places == list(range(places[0], places[-1] + 1))
            assert ids[places[0] + 1 : places[-1] + 1].tolist() == trained[:-1]


def test_every_pair_is_seen_once_an_epoch(instructions, tokenizer):
    from tasks.training.batches import PairBatches, read_pairs

    pairs, _ = read_pairs(instructions.path / "train.jsonl", tokenizer, 64)
    data = PairBatches(pairs, [], 1, 1, 0, seed=1)
    for epoch in range(2):
        seen = [data.micro_batches(epoch * len(pairs) + n + 1)[0].input_ids.tolist()[0] for n in range(len(pairs))]
        assert sorted(seen) == sorted(pair.tokens[:-1] for pair in pairs)


def test_long_pairs_are_cut_at_the_response_or_dropped_and_counted(tmp_path, tokenizer):
    from tasks.training.batches import read_pairs

    rows = [("短い", "答え"), ("短い", "長い答え。" * 30), ("長い問い。" * 30, "答え")]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps({"prompt": p, "response": r}) + "\n" for p, r in rows))
    pairs, counts = read_pairs(path, tokenizer, 48)
    assert (counts.pairs, counts.truncated, counts.dropped) == (2, 1, 1)
    assert len(pairs[1].tokens) == 48 and pairs[1].tokens[-1] != tokenizer.eos_token_id


def test_control_tokens_and_line_separators_in_text_stay_text(tmp_path, tokenizer):
    from tasks.training.batches import read_pairs

    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "a\u2028b<|endoftext|>", "response": "c<|endoftext|>"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    ((tokens, _),), _ = read_pairs(path, tokenizer, 64)
    assert tokens.count(tokenizer.eos_token_id) == 1


def test_pairs_that_all_exceed_the_sequence_are_an_error(lora_config, workspace, base, instructions):
    with pytest.raises(DataError, match="none of 60 pairs fits 4 tokens"):
        tune(lora_config(sequence_length=4), workspace, base, instructions)


def test_layers_that_the_model_lacks_are_refused(lora_config, workspace, base, instructions):
    with pytest.raises(ConfigError, match="wqkv not in the model"):
        tune(lora_config(target_modules=("wqkv", "q_proj")), workspace, base, instructions)


def test_validation_can_be_switched_off(lora_config, workspace, base, instructions):
    summary = tune(lora_config(max_steps=2, validation_batches=0), workspace, base, instructions)
    assert summary.proofs["validation_losses"] == []

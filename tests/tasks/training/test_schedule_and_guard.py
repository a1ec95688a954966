"""Learning rate by step, and when a training counts as diverged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_contracts.errors import ConfigError, TrainingDiverged
from tasks.training.config import InstructionsConfig, LoraConfig, PretrainConfig
from tasks.training.guard import LossGuard
from tasks.training.schedule import learning_rate
from tasks.training.targets import TARGET_MODULES, target_modules


def test_learning_rate_warms_up_linearly_and_ends_at_the_floor():
    config = PretrainConfig(learning_rate=1.0, min_learning_rate=0.1, warmup_steps=10)
    assert [learning_rate(step, 100, config) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert learning_rate(55, 100, config) == pytest.approx(0.55)
    assert learning_rate(100, 100, config) == pytest.approx(0.1)


@given(st.integers(1, 500), st.integers(0, 600))
def test_learning_rate_is_always_between_nothing_and_the_peak(num_steps, warmup_steps):
    config = PretrainConfig(learning_rate=1e-3, min_learning_rate=1e-4, warmup_steps=warmup_steps)
    rates = [learning_rate(step, num_steps, config) for step in range(1, num_steps + 1)]
    assert all(0 < rate <= 1e-3 * (1 + 1e-12) for rate in rates)
    assert rates[-1] == pytest.approx(1e-4) or num_steps == 1


@pytest.mark.parametrize(("loss", "norm"), [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan"))])
def test_a_loss_or_norm_that_is_no_number_stops_at_once(loss, norm):
    with pytest.raises(TrainingDiverged, match="step 7"):
        LossGuard(3.0, 20, [], 0).check(7, loss, norm)


def test_a_loss_that_stays_high_stops_and_a_passing_spike_does_not():
    guard = LossGuard(2.0, 3, [], 0)
    for step, loss in enumerate([1.0] * 10 + [5.0, 5.0] + [1.0] * 5):
        guard.check(step, loss, 1.0)
    guard.check(20, 5.0, 1.0)
    guard.check(21, 5.0, 1.0)
    with pytest.raises(TrainingDiverged, match=r"above 2\.0 times the running median 1\.000 for 3 steps"):
        guard.check(22, 5.0, 1.0)


def test_defaults_are_the_workshops():
    pretrain, lora = PretrainConfig(), LoraConfig()
    assert (pretrain.sequence_length, pretrain.micro_batch_size, pretrain.global_batch_size) == (2048, 4, 64)
    assert (pretrain.max_steps, pretrain.log_every_steps) == (1000, 10)
    assert (lora.max_steps, lora.rank, lora.alpha, lora.validate_every_steps) == (500, 16, 32, 10)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"global_batch_size": 6}, "no multiple of micro_batch_size 4"),
        ({"epochs": 1.0}, "exactly one of max_steps and epochs"),
        ({"max_steps": None}, "exactly one of max_steps and epochs"),
        ({"min_learning_rate": 1.0}, "above learning_rate"),
        ({"attention": "flash_attention_2", "precision": "fp32"}, "needs device cuda and precision bf16"),
        ({"learning_rte": 1.0}, "learning_rte"),
    ],
)
def test_a_config_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        PretrainConfig.model_validate(values)


def test_every_field_is_described():
    for config in (PretrainConfig, LoraConfig, InstructionsConfig):
        assert all(field.description for field in config.model_fields.values())


def test_lora_layers_are_named_by_architecture_or_by_the_user():
    assert target_modules("qwen2", None) == TARGET_MODULES["qwen2"]
    assert target_modules("unheard_of", ("wq", "wv")) == ("wq", "wv")
    with pytest.raises(ConfigError, match="unheard_of"):
        target_modules("unheard_of", None)

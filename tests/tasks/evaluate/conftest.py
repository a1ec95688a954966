"""Models of known properties, as real folders of a few kilobytes."""

from pathlib import Path

import pytest
import torch

from micro_model import MICRO, TEXTS
from tasks.models.tiny import random_model, save_tokenizer, train_tokenizer


def write(folder: Path, change=lambda model: None, seed: int = 42) -> Path:
    config = MICRO.model_copy(update={"seed": seed})
    save_tokenizer(train_tokenizer(TEXTS, config.vocabulary_size), config, folder)
    model = random_model(config)
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights large enough that its opinions differ from token to token."""
    return write(tmp_path_factory.mktemp("random"), lambda m: [p.mul_(8) for p in m.parameters() if p.dim() == 2])


@pytest.fixture(scope="session")
def uniform_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All logits are zero: every token has probability 1 / 320."""
    return write(tmp_path_factory.mktemp("uniform"), lambda m: m.model.norm.weight.zero_())


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine would take most of the tests' time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""Model folders that the tests of this package share: real ones, a few kilobytes large."""

from pathlib import Path

import pytest
import torch

from micro_model import MICRO, TEXTS
from tasks.models.tiny import random_model, save_tokenizer, train_tokenizer
from tasks.runtime import Runtime
from tasks.workspace import Workspace


@pytest.fixture(scope="session")
def micro_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 model with tied embeddings and a vocabulary of 320 tokens; not to be changed."""
    folder = tmp_path_factory.mktemp("micro")
    save_tokenizer(train_tokenizer(TEXTS, MICRO.vocabulary_size), MICRO, folder)
    random_model(MICRO).save_pretrained(folder)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "out", Runtime(store=tmp_path / "store"))


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Threads that wait for each other on a busy machine would take most of the tests' time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

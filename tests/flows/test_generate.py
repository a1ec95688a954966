"""`tsuzuki generate`: the answers are those of the model, whatever it comes as, and their figures are told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import nemo_folders
import pytest
import torch
from model_artifacts import sealed, write_adapter, write_model

from data_contracts.artifacts import Adapter, Delivery, HfModel
from data_contracts.errors import (
    ConfigError,
    DamagedArtifact,
    MissingArtifact,
    MissingPackage,
    ModelError,
    SourceError,
    UsageError,
)
from flows import generating
from flows.generating import Options, Source, find_source, read_prompts
from nemo_environment import nemo_python, run_nemo
from tasks.models.loading import load_model, load_tokenizer
from tasks.runtime import WandbConfig

PROMPTS = ["富士山は", "It is the ﾊﾝｶｸ と　全角 👩‍🔬", "が"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Artifacts: a continued model, an adapter of it, and a delivery."""
    store, parts = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("parts")
    continued = sealed(store, "pretrain", HfModel, model)
    sealed(store, "lora", Adapter, write_adapter(parts / "adapter", "Qwen/nowhere"), model=continued)
    shutil.copytree(model, parts / "delivery" / "model")
    sealed(store, "deliver", Delivery, parts / "delivery")
    return store


def only(store: Path, stage: str) -> Path:
    [folder] = (store / stage).iterdir()
    return folder


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict]]:
    """`answers(source, prompts, **options)`, worked out in this process: same code, without the start of a worker."""

    def run(function: str, arguments: dict[str, Any], workspace: Any, on_event: Any, python: Any = None) -> None:
        module, _, name = function.partition(":")

        def emit(event: str, **fields: Any) -> None:
            on_event(json.loads(json.dumps({"event": event, **fields})))

        getattr(import_module(module), name)(**json.loads(json.dumps({**arguments, "cpu_threads": 1})), emit=emit)

    monkeypatch.setattr("flows.generating.run_worker", run)

    def generate(source: Source, prompts: list[str], more: dict[str, Any] | None = None, **options: Any) -> list[dict]:
        events: list[dict] = []
        wanted = Options(**{"max_new_tokens": 12, "device": "cpu", **options})
        generating.generate(source, prompts, wanted, events.append, **(more or {}))
        return events

    return generate


def texts(events: list[dict]) -> list[str]:
    return [event["answer"] for event in events if event["event"] == "answer"]


def greedy(model: Any, tokenizer: Any, prompt: str, num_tokens: int) -> str:
    """Step by step with the whole text each time: no cache, no generation code."""
    ids = tokenizer(prompt)["input_ids"]
    written: list[int] = []
    while len(written) < num_tokens:
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        written.append(token)
    return tokenizer.decode(written, skip_special_tokens=True)


def test_the_command_prints_answers_on_stdout_and_figures_on_stderr(tsuzuki, model):
    words = ("generate", model, "--prompt", PROMPTS[0], "--prompt", PROMPTS[1], "--max-new-tokens", 12)
    result = tsuzuki(*words, "--device", "cpu")
    plain, tokenizer = load_model(model), load_tokenizer(model)
    expected = [greedy(plain, tokenizer, prompt, 12) for prompt in PROMPTS[:2]]
    assert result.stdout == "".join(f"{answer}\n" for answer in expected)
    assert "loaded in" in result.stderr and "transformers" in result.stderr
    assert f"[2/2] {PROMPTS[1]}" in result.stderr and "tokens/s" in result.stderr


def test_without_prompts_it_answers_the_three_of_the_demo_and_json_holds_every_figure(tsuzuki, store):
    lines = tsuzuki("generate", only(store, "deliver"), "--json", "--max-new-tokens", 3).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["prompt"] for row in rows] == list(generating.PROMPTS)
    for row in rows:
        assert 0 < row["num_tokens"] <= 3 and row["seconds"] > 0 and row["load_seconds"] > 0
        assert row["tokens_per_second"] == pytest.approx(row["num_tokens"] / row["seconds"])
        assert row["num_characters"] == len(row["answer"]) and row["engine"].startswith("transformers")


def test_an_adapter_answers_as_its_base_with_it_laid_over(answers, store, model):
    from peft import PeftModel

    source = find_source(only(store, "lora"))
    assert source == Source("hf", only(store, "pretrain"), only(store, "lora"))
    tokenizer = load_tokenizer(model)
    adapted = PeftModel.from_pretrained(load_model(model), source.adapter).eval()
    expected = [greedy(adapted, tokenizer, prompt, 12) for prompt in PROMPTS]
    assert texts(answers(source, PROMPTS)) == expected
    assert texts(answers(Source("hf", model), PROMPTS)) != expected


def test_the_base_of_a_plain_adapter_is_named_or_found_where_its_config_says(store, model, tmp_path):
    adapter = write_adapter(tmp_path / "adapter", "Qwen/nowhere")
    with pytest.raises(MissingArtifact, match="`Qwen/nowhere`, which is no folder"):
        find_source(adapter)
    assert find_source(adapter, base=only(store, "deliver")) == Source("hf", only(store, "deliver") / "model", adapter)
    assert find_source(write_adapter(tmp_path / "other", str(model))).folder == model
    with pytest.raises(UsageError, match="is no Hugging Face model"):
        find_source(adapter, base=only(store, "lora"))


def test_an_adapter_of_another_model_is_refused(answers, tmp_path):
    from safetensors.torch import load_file, save_file

    adapter = write_adapter(tmp_path / "adapter", "x")
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({k: v.repeat(2, 2).contiguous() for k, v in tensors.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="does not fit its base"):
        answers(find_source(adapter, write_model(tmp_path / "m")), PROMPTS)


def test_top_k_1_and_temperature_0_are_greedy_and_drawn_tokens_follow_the_seed(answers, model):
    source = Source("hf", model)
    likeliest = texts(answers(source, PROMPTS))
    assert texts(answers(source, PROMPTS, temperature=0.0, top_k=0)) == likeliest
    drawn = [texts(answers(source, PROMPTS, temperature=3.0, top_k=0, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_prompt_and_answer_are_fitted_into_the_context_and_it_is_said(answers, model):
    events = answers(Source("hf", model), ["富", "富士山" * 100], max_new_tokens=512)
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert "leaves room for" in warnings[0] and "its end is used" in warnings[1]
    assert [event["num_tokens"] <= 128 for event in events if event["event"] == "answer"] == [True, True]


def test_prompts_come_from_lines_or_from_rows(tmp_path):
    lines, rows = tmp_path / "prompts.txt", tmp_path / "rows.jsonl"
    lines.write_text("\ufeff日本の四季\n\n  未来 \n", encoding="utf-8")
    assert read_prompts(lines) == ["日本の四季", "  未来 "]
    rows.write_text('{"prompt": "### 指示:\\n説明\\n", "response": "x"}\n', encoding="utf-8")
    assert read_prompts(rows) == ["### 指示:\n説明\n"]
    for path, content in ((rows, '{"text": "x"}'), (rows, "[]"), (rows, "x"), (lines, "\n"), (lines, b"\xff\xfe")):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UsageError):
            read_prompts(path)
    with pytest.raises(UsageError, match="No such file"):
        read_prompts(tmp_path / "absent")


def test_every_answer_is_a_step_of_an_offline_wandb_run(answers, model, tmp_path):
    wandb = WandbConfig(mode="offline", project=generating.WANDB_PROJECT)
    answers(Source("hf", model), PROMPTS, {"wandb": wandb, "wandb_folder": tmp_path})
    [run] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = run.read_bytes()
    for word in ("qwen25-demo-live", "num_tokens", "seconds", "tokens_per_second", "load_seconds", "num_characters"):
        assert word.encode() in content


def test_an_answer_without_wandb_leaves_nothing_behind(answers, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answers(Source("hf", model), PROMPTS[:1])
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_named(answers, model):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="found no CUDA device"):
        answers(Source("hf", model), PROMPTS, device="cuda")


def test_what_cannot_be_loaded_is_said_before_anything_starts(model, tmp_path):
    with pytest.raises(SourceError, match="no model, adapter or NeMo checkpoint"):
        find_source(tmp_path)
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1/parameters.safetensors").write_bytes(b"x")
    with pytest.raises(SourceError, match="weights without a model's config"):
        find_source(tmp_path / "step-1")
    torn = Path(shutil.copytree(model, tmp_path / "torn"))
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(DamagedArtifact, match="its header accounts for"):
        find_source(torn)


IMPORT = """
import sys
from tasks.training.nemo_compat import prepare
def main(model, target):
    prepare()
    from nemo.collections import llm
    from nemo.collections.llm.gpt.model.qwen2 import Qwen2Config500M, Qwen2Model
    llm.import_ckpt(model=Qwen2Model(Qwen2Config500M()), source=f"hf://{model}", output_path=target)
if __name__ == "__main__":  # saving starts processes that import this again
    main(*sys.argv[1:])
"""


def test_a_nemo_checkpoint_answers_as_the_model_that_it_was_made_from(tsuzuki, model, tmp_path, monkeypatch):
    monkeypatch.setenv("TSUZUKI_NEMO_PYTHON", str(nemo_python()))
    (tmp_path / "import.py").write_text(IMPORT)
    run_nemo(tmp_path / "import.py", model, tmp_path / "imported")
    words = [word for prompt in PROMPTS for word in ("--prompt", prompt)]
    lines = tsuzuki("generate", tmp_path / "imported", *words, "--max-new-tokens", 12, "--json").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    plain, tokenizer = load_model(model), load_tokenizer(model)
    assert [row["answer"] for row in rows] == [greedy(plain, tokenizer, prompt, 12) for prompt in PROMPTS]
    assert all(row["engine"].startswith("nemo 2.7") and 0 < row["num_tokens"] <= 12 for row in rows)


def test_a_nemo_checkpoint_needs_an_interpreter_with_nemo_and_an_adapter_its_base(answers, tmp_path, monkeypatch):
    monkeypatch.delenv("TSUZUKI_NEMO_PYTHON", raising=False)
    source = find_source(nemo_folders.write(tmp_path / "base", 5))
    assert source == Source("nemo", tmp_path / "base")
    with pytest.raises(MissingPackage, match="TSUZUKI_NEMO_PYTHON"):
        answers(source, PROMPTS)
    adapter = nemo_folders.write(tmp_path / "adapter", 5)
    (adapter / "weights/adapter_metadata.json").write_text(
        json.dumps({"model_ckpt_path": str(tmp_path / "base/weights")})
    )
    assert find_source(adapter) == Source("nemo", adapter)
    with pytest.raises(UsageError, match="given for a nemo_adapter"):
        find_source(adapter, base=tmp_path / "base")
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(DamagedArtifact, match="its base cannot be used"):
        find_source(adapter)
    (adapter / "weights/adapter_metadata.json").write_text("{}")
    with pytest.raises(DamagedArtifact, match="model_ckpt_path"):
        find_source(adapter)

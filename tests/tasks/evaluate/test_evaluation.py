"""Stage `evaluate` from sealed inputs to its files: what is measured, on what, and what a kill leaves."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import Corpus, HfModel, InstructionSet, RawCorpus
from data_contracts.errors import DataError
from data_contracts.rows import DOCUMENTS
from tasks.evaluate import measuring
from tasks.evaluate.config import EvaluateConfig
from tasks.evaluate.control_text import CONTROL_TEXTS
from tasks.evaluate.evaluation import changes, evaluate
from tasks.evaluate.material import drawn, gather
from tasks.runtime import Runtime
from tasks.workspace import Workspace

CONFIG = EvaluateConfig(
    max_documents=3,
    sequence_length=64,
    context_tokens=8,
    answer_tokens=4,
    prompt_tokens=4,
    max_questions=2,
    cpu_threads=1,
)


def write_lines(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def data(tmp_path) -> dict:
    """Five validation documents, of which d0 and d1 are used by instructions; two facts; three questions."""
    rows = [
        {"id": f"d{i}", "text": f"富士山は日本で{i}番目に高い。", "source": "s", "url": "", "title": "", "meta": "{}"}
        for i in range(5)
    ]
    (tmp_path / "corpus" / "documents").mkdir(parents=True)
    for split, part in (("train", rows[:1]), ("validation", rows)):
        table = pa.Table.from_pylist(part, schema=DOCUMENTS)
        pq.write_table(table, tmp_path / "corpus" / "documents" / f"{split}-00000.parquet")
    facts = [{"prompt": "山は", "answer": "富士山", "choices": ["北岳"], "id": n, "theme": "x"} for n in "ab"]
    write_lines(tmp_path / "raw" / "truth" / "facts.jsonl", facts)
    pairs = [{"prompt": f"問{i}", "response": "富士山", "document": "d1"} for i in range(3)]
    write_lines(tmp_path / "pairs" / "validation.jsonl", pairs)
    write_lines(tmp_path / "pairs" / "train.jsonl", [{"prompt": "p", "response": "r", "document": "d0"}])
    return {
        "corpus": Corpus(path=tmp_path / "corpus", digest="c"),
        "raw": RawCorpus(path=tmp_path / "raw", digest="r"),
        "instructions": InstructionSet(path=tmp_path / "pairs", digest="i"),
    }


def models(uniform: Path, random: Path) -> dict[str, HfModel]:
    folders = {"base": uniform, "continued": random, "tuned": random}
    return {name: HfModel(path=path, digest=name) for name, path in folders.items()}


def test_stage_writes_figures_generations_and_speed_and_repeats_its_bytes(
    data, uniform_folder, random_folder, tmp_path
):
    contents, seen = [], []
    for name in ("first", "second"):
        show = lambda done, total=None, unit="", **figures: seen.append((done, total, figures))  # noqa: E731
        workspace = Workspace(tmp_path / name, Runtime(store=tmp_path), show)
        summary = evaluate(CONFIG, workspace, **models(uniform_folder, random_folder), **data)
        assert [e.name for e in workspace.files()] == ["evaluation.json", "generations.jsonl", "logs/speed.json"]
        contents.append([(tmp_path / name / file).read_bytes() for file in ("evaluation.json", "generations.jsonl")])
    assert contents[0] == contents[1]
    evaluation = json.loads(contents[0][0])
    base = evaluation["models"]["base"]
    assert base["japanese"]["perplexity"] == pytest.approx(320, rel=1e-4) and base["japanese"]["num_documents"] == 3
    assert base["english"]["num_characters"] == sum(map(len, CONTROL_TEXTS))
    assert base["cloze"]["num_questions"] == 2 and base["questions"]["num_questions"] == 2
    assert base["num_parameters"] == 25888
    assert evaluation["models"]["continued"] == evaluation["models"]["tuned"]
    rows = [json.loads(line) for line in contents[0][1].splitlines()]
    assert [row["model"] for row in rows] == ["base"] * 5 + ["continued"] * 5 + ["tuned"] * 5
    assert [row["prompt"] for row in rows[:5]] == list(CONFIG.prompts)
    speed = json.loads((tmp_path / "first" / "logs" / "speed.json").read_text())
    assert all(speed[name][field] > 0 for name in speed for field in speed[name]) and len(speed) == 3
    assert seen[-1][:2] == (15, 15) and seen[0][2] == {"model": "base"}
    assert summary.counts["japanese_documents"] == 3
    assert summary.proofs["models"]["base"]["japanese_perplexity"] == base["japanese"]["perplexity"]


def test_evaluation_that_was_cut_short_keeps_the_models_that_were_finished(
    data, uniform_folder, random_folder, tmp_path, monkeypatch
):
    material = tmp_path / "material.json"
    material.write_text(json.dumps(gather(CONFIG, **data)))
    folders = {"base": str(uniform_folder), "tuned": str(random_folder)}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    config = CONFIG.model_dump(mode="json")
    expected = measuring.measure_models(config, folders, str(material), str(whole), emit=lambda *a, **k: None)
    (cut / "base.result.json").write_bytes((whole / "base.result.json").read_bytes())
    (cut / "tuned.result.partial").write_text("{half")
    measured, real = [], measuring.measure
    monkeypatch.setattr(measuring, "measure", lambda *a: measured.append(a[1]) or real(*a))
    events = []
    found = measuring.measure_models(
        config, folders, str(material), str(cut), emit=lambda event, **fields: events.append(fields["steps"])
    )
    assert measured == [random_folder] and sum(events) == 10
    for name in folders:
        assert {k: v for k, v in found[name].items() if k != "speed"} == {
            k: v for k, v in expected[name].items() if k != "speed"
        }


def test_documents_of_instructions_are_left_out_and_the_draw_ignores_order(data):
    material = gather(CONFIG.model_copy(update={"max_documents": 9}), **data)
    assert sorted(material["documents"]) == [f"富士山は日本で{i}番目に高い。" for i in (2, 3, 4)]
    items = [str(i) for i in range(50)]
    assert drawn(items, 7, str) == drawn(items[::-1], 7, str) != items[:7]


def test_no_held_out_document_left_is_an_error(data):
    pairs = [{"prompt": "p", "response": "r", "document": f"d{i}"} for i in range(5)]
    write_lines(data["instructions"].path / "train.jsonl", pairs)
    with pytest.raises(DataError, match="none of 5 validation documents is left"):
        gather(CONFIG, **data)


def test_corpus_without_truth_or_questions_is_measured_without_them(data):
    (data["raw"].path / "truth" / "facts.jsonl").unlink()
    write_lines(data["instructions"].path / "validation.jsonl", [])
    material = gather(CONFIG, **data)
    assert material["cloze"] == material["questions"] == []


def test_documents_stop_at_the_token_limit_and_long_ones_are_cut(data, uniform_folder):
    texts = ["富士山。"] * 10
    assert measuring.within_tokens(uniform_folder, texts, 1) == texts[:1]
    assert measuring.within_tokens(uniform_folder, texts, 10**6) == texts
    assert all(
        len(t) == 3 for t in gather(CONFIG.model_copy(update={"max_document_characters": 3}), **data)["documents"]
    )


def test_changes_are_relative_to_the_base():
    def figures(japanese, english, cloze):
        return {
            "japanese": {"bits_per_character": japanese},
            "english": {"bits_per_character": english},
            "cloze": {"accuracy": cloze},
            "questions": None,
        }

    found = changes({"base": figures(4.0, 2.0, 0.25), "tuned": figures(3.0, 2.5, 0.75)})
    assert found == {
        "tuned": {"japanese_gain": 0.25, "english_forgetting": 0.25, "cloze_gain": 0.5, "questions_gain": None}
    }


def test_windows_that_would_not_advance_are_refused():
    with pytest.raises(ValueError, match="must be smaller than sequence_length"):
        EvaluateConfig(sequence_length=64, context_tokens=64)

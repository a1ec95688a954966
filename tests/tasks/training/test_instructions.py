"""Prompt and response pairs: from a file, from held-out documents, from the sample's questions."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import Corpus, RawCorpus
from data_contracts.errors import ConfigError, DataError
from data_contracts.rows import DOCUMENTS
from tasks.runtime import identity
from tasks.training.config import InstructionsConfig
from tasks.training.instruction_rows import prompt_of, row_pair
from tasks.training.instructions import make_instructions, outside_digests


@pytest.fixture
def corpus(tmp_path):
    texts = [f"文書{n}の一文目。二文目はこう続く。三文目で終わる。四文目は使わない。" for n in range(40)]
    texts += ["句点のない文書", "一文だけ。", "一。二。", ""]
    rows = [
        {"id": f"d{n}", "text": t, "source": "s", "url": "", "title": "", "meta": "{}"} for n, t in enumerate(texts)
    ]
    folder = tmp_path / "corpus" / "documents"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS), folder / "validation-00000.parquet")
    return Corpus(path=folder.parent, digest="0")


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    return RawCorpus(path=tmp_path / "raw", digest="0")


@pytest.fixture
def sample(raw):
    rows = [
        {"instruction": f"県{n}の県庁所在地は。", "input": "", "output": f"市{n}。", "held_out": n % 5 == 0}
        for n in range(20)
    ]
    (raw.path / "truth").mkdir()
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (raw.path / "truth/questions.jsonl").write_text(text, encoding="utf-8")
    return raw


def rows_of(workspace, split):
    return [json.loads(line) for line in (workspace.path / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def jsonl(tmp_path, rows):
    path = tmp_path / "mine.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_template_takes_three_sentences_of_at_most_half_the_held_out_documents(workspace, raw, corpus):
    summary = make_instructions(InstructionsConfig(kind="template"), workspace, raw, corpus)
    rows = rows_of(workspace, "train") + rows_of(workspace, "validation")
    assert summary.counts["documents_validation"] == 44
    assert len(rows) + summary.counts["documents_too_short"] == 22
    assert len({row["document"] for row in rows}) == len(rows) == summary.counts["documents_used"]
    for row in rows:
        number = row["document"].removeprefix("d")
        assert f"### 入力:\n文書{number}の一文目。\n\n### 応答:\n" in row["prompt"]
        assert row["response"] == "二文目はこう続く。三文目で終わる。"


def test_template_picks_the_same_documents_each_time(workspace, raw, corpus):
    make_instructions(InstructionsConfig(kind="template"), workspace, raw, corpus)
    before = rows_of(workspace, "train")
    make_instructions(InstructionsConfig(kind="template"), workspace, raw, corpus)
    assert rows_of(workspace, "train") == before


def test_sample_questions_keep_their_own_held_out_ones(workspace, sample, corpus):
    summary = make_instructions(InstructionsConfig(), workspace, sample, corpus)
    assert summary.proofs["kind"] == "sample"
    assert (summary.counts["pairs_train"], summary.counts["pairs_validation"]) == (16, 4)
    assert rows_of(workspace, "validation")[0] == {
        "prompt": "### 指示:\n県0の県庁所在地は。\n\n### 応答:\n", "response": "市0。", "document": ""
    }  # fmt: skip


def test_auto_without_sample_questions_is_the_template(workspace, raw, corpus):
    assert make_instructions(InstructionsConfig(), workspace, raw, corpus).proofs["kind"] == "template"


def test_the_users_file_may_mix_both_forms(tmp_path, workspace, raw, corpus):
    rows = [{"instruction": f"問{n}", "input": "資料", "output": f"答{n}"} for n in range(10)]
    talk = [("system", "丁寧に。"), ("user", "一"), ("assistant", "二"), ("user", "三"), ("assistant", "四")]
    rows.append({"messages": [{"role": role, "content": content} for role, content in talk]})
    config = InstructionsConfig(path=jsonl(tmp_path, rows), validation_share=0.2)
    summary = make_instructions(config, workspace, raw, corpus)
    assert (summary.counts["pairs_train"], summary.counts["pairs_validation"]) == (9, 2)
    every = {row["prompt"]: row["response"] for s in ("train", "validation") for row in rows_of(workspace, s)}
    assert every["丁寧に。\n\n### 指示:\n一\n\n### 応答:\n二\n\n### 指示:\n三\n\n### 応答:\n"] == "四"
    assert every["### 指示:\n問3\n\n### 入力:\n資料\n\n### 応答:\n"] == "答3"


def test_a_prompt_is_never_in_both_splits(tmp_path, workspace, raw, corpus):
    rows = [{"instruction": f"問{n % 10}", "output": f"答{n}"} for n in range(40)]
    summary = make_instructions(InstructionsConfig(path=jsonl(tmp_path, rows)), workspace, raw, corpus)
    assert summary.counts["pairs"] == 10 and summary.counts["pairs_same_prompt"] == 30
    prompts = [{row["prompt"] for row in rows_of(workspace, split)} for split in ("train", "validation")]
    assert not prompts[0] & prompts[1]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 3: no JSON"),
        ("[1]", "line 3: found a list, expected an object"),
        ('{"instruction": "a"}', "line 3: `output`: found nothing, expected text"),
        ('{"instruction": " ", "output": "b"}', "line 3: `instruction`: empty"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 3: `messages`"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "a"}]}', "line 3: `messages`"),
    ],
)
def test_a_bad_row_is_named_by_its_line(tmp_path, workspace, raw, corpus, line, message):
    good = [{"instruction": f"問{n}", "output": "答"} for n in range(10)]
    path = jsonl(tmp_path, [*good[:2], line, *good[2:]])
    with pytest.raises(DataError, match=message):
        make_instructions(InstructionsConfig(path=path), workspace, raw, corpus)
    summary = make_instructions(InstructionsConfig(path=path, max_bad_rows=1), workspace, raw, corpus)
    assert summary.counts["rows_bad"] == 1


def test_max_pairs_keeps_that_many(tmp_path, workspace, sample, corpus):
    summary = make_instructions(InstructionsConfig(max_pairs=12), workspace, sample, corpus)
    assert summary.counts["pairs"] == 12


def test_too_few_pairs_are_an_error_with_a_hint(workspace, raw, corpus):
    with pytest.raises(DataError, match="hint: use more documents"):
        make_instructions(InstructionsConfig(kind="template", template_share=0.1), workspace, raw, corpus)


def test_sample_questions_asked_for_but_absent_are_an_error(workspace, raw, corpus):
    with pytest.raises(DataError, match="only the bundled sample has questions"):
        make_instructions(InstructionsConfig(kind="sample"), workspace, raw, corpus)


def test_the_users_file_is_identity_by_content_not_by_path(tmp_path):
    path = jsonl(tmp_path, [{"instruction": "a", "output": "b"}])
    config = InstructionsConfig(path=path)
    before = outside_digests(config)
    assert "path" not in identity(config)
    path.write_text("{}")
    assert outside_digests(config) != before
    assert outside_digests(InstructionsConfig()) == {}
    with pytest.raises(ConfigError, match="no such file"):
        outside_digests(InstructionsConfig(path=tmp_path / "absent.jsonl"))


def test_prompt_leaves_out_an_empty_input():
    assert prompt_of("説明せよ") == "### 指示:\n説明せよ\n\n### 応答:\n"
    assert row_pair(b'{"instruction": "x", "input": null, "output": "y"}') == (prompt_of("x"), "y")

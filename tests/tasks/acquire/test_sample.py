"""The bundled sample is reproducible, and the truth it states about its planted faults holds by independent measure."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest

from tasks.acquire.sample import FOLDER, SampleCorpus, SampleDocument, generate, write, write_truth
from tasks.acquire.sample_facts import RELATIONS
from tasks.acquire.sample_noise import BROKEN_KINDS, broken_line
from tasks.acquire.sample_wordings import politely

GOLDEN = "888728bf30ac2ff055b5c1269a0007210edeef27590d3c9afd34f7f6c581f8f8"
DUPLICATES = ("exact_duplicate", "near_duplicate")


@pytest.fixture(scope="module")
def corpus() -> SampleCorpus:
    return generate(3000, seed=7)


@pytest.fixture(scope="module")
def documents(corpus: SampleCorpus) -> list[SampleDocument]:
    return list(corpus.documents())


@pytest.fixture(scope="module")
def by_id(documents: list[SampleDocument]) -> dict[str, SampleDocument]:
    return {document.id: document for document in documents}


def flat(text: str) -> str:
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


def five_grams(text: str) -> set[str]:
    characters = flat(text)
    return {characters[start : start + 5] for start in range(len(characters) - 4)}


def similarity(left: str, right: str) -> float:
    a, b = five_grams(left), five_grams(right)
    return len(a & b) / len(a | b)


def digest(corpus: SampleCorpus) -> str:
    tables = (corpus.documents(), corpus.facts, corpus.questions, corpus.broken_lines())
    lines = (json.dumps(row, ensure_ascii=False).encode() for table in tables for row in table)
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def clusters(documents: list[SampleDocument]) -> Iterator[list[SampleDocument]]:
    members = defaultdict(list)
    for document in documents:
        members[document.cluster].append(document)
    return (group for group in members.values() if len(group) > 1)


def similar_pairs(documents: list[SampleDocument], floor: float) -> Iterator[tuple[int, int]]:
    """All pairs at `floor` or above, by counting the grams they share (exact, no sketch)."""
    sets = [five_grams(document.text) for document in documents]
    holders: dict[str, list[int]] = defaultdict(list)
    for place, own in enumerate(sets):
        shared: Counter[int] = Counter()
        for gram in own:
            shared.update(holders[gram])
            holders[gram].append(place)
        for other, count in shared.items():
            if count / (len(own) + len(sets[other]) - count) >= floor:
                yield other, place


def test_same_seed_gives_the_golden_corpus() -> None:
    assert digest(generate(300, seed=7)) == GOLDEN


def test_another_seed_gives_another_corpus() -> None:
    assert digest(generate(300, seed=8)) != GOLDEN


def test_hash_randomisation_does_not_reach_the_corpus() -> None:
    code = "from tasks.acquire.sample import generate; print(ascii(list(generate(60, 3).documents())))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_a_document_is_the_same_whether_asked_for_alone_or_in_turn(
    corpus: SampleCorpus, documents: list[SampleDocument]
) -> None:
    for position in range(2999, 0, -97):
        assert corpus.document(position) == documents[position]


@pytest.mark.parametrize("num_documents", [60, 61, 150, 1000])
def test_any_size_has_all_faults_and_the_right_number_of_documents(num_documents: int) -> None:
    corpus = generate(num_documents, seed=1)
    found = list(corpus.documents())
    assert len(found) == num_documents == len({document.id for document in found})
    assert len({document.fault for document in found}) == 10
    assert corpus.facts and any(question.held_out for question in corpus.questions)
    assert all(100 < len(document.text) <= 1200 for document in found if document.fault == "")


def test_fewer_than_sixty_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 60"):
        generate(59, seed=1)


def test_a_large_corpus_is_planned_and_any_document_of_it_made() -> None:
    corpus = generate(200_000, seed=1)
    texts = {corpus.document(position).text for position in range(0, 200_000, 1999)}
    assert len(texts) == 101
    assert len(corpus.plan.shards) == 5


def test_fault_shares_are_those_promised(documents: list[SampleDocument]) -> None:
    counts = Counter(document.fault for document in documents)
    shares = {fault: count / len(documents) for fault, count in counts.items() if fault}
    assert shares == pytest.approx(
        {
            "exact_duplicate": 0.04,
            "near_duplicate": 0.06,
            "distant_variant": 0.02,
            "english": 0.03,
            "chinese": 0.02,
            "korean": 0.01,
            "symbol_spam": 0.02,
            "stub": 0.03,
            "repetition": 0.01,
        },
        abs=0.001,
    )


def test_good_documents_are_120_to_1200_characters_of_several_paragraphs(documents: list[SampleDocument]) -> None:
    good = [document for document in documents if document.fault == ""]
    assert all(120 <= len(document.text) <= 1200 for document in good)
    assert all(document.text.count("\n\n") >= 2 for document in good)
    assert all(document.text == unicodedata.normalize("NFC", document.text) for document in good)


def test_stated_jaccard_is_the_measured_one(documents: list[SampleDocument], by_id: dict[str, SampleDocument]) -> None:
    derived = [document for document in documents if document.derived_from]
    assert len(derived) == 360
    for document in derived:
        source = by_id[document.derived_from]
        assert document.jaccard == pytest.approx(similarity(document.text, source.text), abs=1e-12)


def test_exact_duplicates_are_equal_after_normalisation_and_often_differ_before(
    documents: list[SampleDocument], by_id: dict[str, SampleDocument]
) -> None:
    exact = [document for document in documents if document.fault == "exact_duplicate"]
    assert all(flat(document.text) == flat(by_id[document.cluster].text) for document in exact)
    changed = sum(document.text != by_id[document.cluster].text for document in exact)
    assert 0.3 < changed / len(exact) < 0.8


def test_all_pairs_of_a_cluster_are_near_duplicates_away_from_the_threshold(documents: list[SampleDocument]) -> None:
    groups = list(clusters(documents))
    assert {len(group) for group in groups} == {2, 3, 4}
    pairs = [similarity(a.text, b.text) for group in groups for a, b in combinations(group, 2)]
    assert min(pairs) >= 0.81
    near = [document.jaccard for document in documents if document.fault == "near_duplicate"]
    assert all(0.81 <= value < 1 for value in near)
    assert all(sum(low <= value < low + 0.05 for value in near) > 8 for low in (0.81, 0.85, 0.9, 0.95))


def test_distant_variants_are_no_duplicates(documents: list[SampleDocument]) -> None:
    variants = [document for document in documents if document.fault == "distant_variant"]
    assert all(0.5 <= document.jaccard <= 0.75 for document in variants)
    assert all(document.cluster == document.id != document.derived_from for document in variants)


def test_documents_of_different_clusters_are_never_near_duplicates(documents: list[SampleDocument]) -> None:
    planted = {frozenset((document.id, document.derived_from)) for document in documents if document.derived_from}
    for left, right in similar_pairs(documents, floor=0.55):
        a, b = documents[left], documents[right]
        assert a.cluster == b.cluster or a.derived_from == b.derived_from or frozenset((a.id, b.id)) in planted


def test_duplicates_lie_in_other_shards_than_their_base_too(
    corpus: SampleCorpus, documents: list[SampleDocument]
) -> None:
    def shard(document: SampleDocument) -> str:
        position = int(document.id.removeprefix("sample-"))
        return next(shard.name for shard in corpus.plan.shards if shard.first <= position < shard.stop)

    spread = Counter(len({shard(document) for document in group}) > 1 for group in clusters(documents))
    assert spread[True] > 50 and spread[False] > 20


def test_validation_holds_two_leaks_and_else_only_good_documents(documents: list[SampleDocument]) -> None:
    validation = [document for document in documents if document.split == "validation"]
    leaks = [document for document in validation if document.fault]
    assert [leak.fault for leak in leaks] == ["near_duplicate"] * 2
    assert len(validation) == 92
    train = {document.id for document in documents if document.split == "train"}
    assert all(leak.cluster in train for leak in leaks)


def test_every_cloze_fact_is_in_six_training_documents_and_three_wordings(
    corpus: SampleCorpus, documents: list[SampleDocument]
) -> None:
    texts = [document.text for document in documents if document.split == "train" and document.fault == ""]
    for fact in corpus.facts:
        forms = [fact.prompt + fact.answer, *(fact.worded(number)[:-3] for number in range(1, 6))]
        holding = [{place for place, text in enumerate(texts) if form in text} for form in forms]
        assert len(holding[0]) >= 3
        assert len(set().union(*holding)) >= 6
        assert sum(bool(places) for places in holding) >= 3


def test_validation_words_its_facts_in_other_ways_than_the_cloze(
    corpus: SampleCorpus, documents: list[SampleDocument]
) -> None:
    texts = [document.text for document in documents if document.split == "validation" and document.fault == ""]
    assert not [fact.prompt for fact in corpus.facts for text in texts if fact.prompt in text]
    assert sum(fact.answer in text for fact in corpus.facts for text in texts) > 200


def test_wrong_choices_are_answers_of_the_same_relation_and_none_is_right(corpus: SampleCorpus) -> None:
    answers = {relation.name: {answer for _, answer in relation.rows} for relation in RELATIONS}
    for fact in corpus.facts:
        assert len(set(fact.choices)) == 3 and fact.answer not in fact.choices
        assert answers[fact.relation].issuperset(fact.choices)
        assert fact.sentence.startswith(fact.prompt + fact.answer)


def test_held_out_questions_are_about_facts_that_no_training_question_asks_for(corpus: SampleCorpus) -> None:
    trained = [question for question in corpus.questions if not question.held_out]
    held_out = [question for question in corpus.questions if question.held_out]
    assert 300 <= len(trained) <= 500 and 80 <= len(held_out) <= 125
    assert not {question.fact for question in trained} & {question.fact for question in held_out}
    assert {question.relation for question in trained} == {question.relation for question in held_out}
    assert {question.fact for question in corpus.questions} == {fact.id for fact in corpus.facts}


def test_every_sentence_of_the_facts_has_a_polite_form_and_states_subject_and_answer() -> None:
    for relation in RELATIONS:
        assert relation.cloze.endswith("、")
        for wording in relation.wordings:
            assert politely(wording) != wording
            assert "{s}" in wording and "{a}" in wording
        assert len({answer for _, answer in relation.rows}) >= 4
        assert len(set(relation.rows)) == len(relation.rows) == len({subject for subject, _ in relation.rows})


def test_two_writes_are_equal_byte_for_byte_and_hold_every_document(tmp_path: Path, corpus: SampleCorpus) -> None:
    for run in ("a", "b"):
        files = write(corpus, tmp_path / run, truth_folder=tmp_path / run / "truth")
        assert [str(file.relative_to(tmp_path / run)) for file in files[:4]] == [
            f"{FOLDER}/{name}.jsonl.gz" for name in ("train_0", "train_1", "train_2", "validation_0")
        ]
    for file in files:
        assert file.read_bytes() == (tmp_path / "a" / file.relative_to(tmp_path / "b")).read_bytes()


def test_files_hold_the_documents_and_the_broken_lines_where_the_truth_says(
    tmp_path: Path, corpus: SampleCorpus, documents: list[SampleDocument]
) -> None:
    write(corpus, tmp_path, truth_folder=tmp_path / "truth")
    broken = {(line["file"], line["line"]) for line in _rows(tmp_path / "truth/broken_lines.jsonl")}
    found = []
    for name in ("train_0", "train_1", "train_2", "validation_0"):
        file = f"{FOLDER}/{name}.jsonl.gz"
        for number, line in enumerate(gzip.decompress((tmp_path / file).read_bytes()).split(b"\n")[:-1], 1):
            assert _is_document(line) == ((file, number) not in broken)
            if (file, number) not in broken:
                row = json.loads(line)
                found.append((row["meta"]["id"], row["meta"]["title"], row["meta"]["url"], row["text"]))
    assert len(broken) == 12
    assert {file for file, _ in broken} == {f"{FOLDER}/{shard.name}" for shard in corpus.plan.shards}
    assert found == [(document.id, document.title, document.url, document.text) for document in documents]


def test_truth_written_alone_equals_truth_written_with_the_corpus(tmp_path: Path) -> None:
    corpus = generate(60, seed=2)
    write(corpus, tmp_path, truth_folder=tmp_path / "with")
    for file in write_truth(corpus, tmp_path / "alone"):
        assert file.read_bytes() == (tmp_path / "with" / file.name).read_bytes()
    rows = _rows(tmp_path / "alone/documents.jsonl")
    assert [row["id"] for row in rows] == [document.id for document in corpus.documents()]
    assert set(rows[0]) == set(SampleDocument._fields) - {"text"}


@pytest.mark.parametrize("kind", BROKEN_KINDS)
def test_a_broken_line_of_each_kind_is_no_document(kind: str) -> None:
    line = broken_line(kind, "日本の首都は、東京である。続きの文である。", 1)
    assert b"\n" not in line
    assert not _is_document(line)


def test_writer_opens_files_through_the_function_it_is_given(tmp_path: Path) -> None:
    opened = []

    def open_and_note(path: Path):
        opened.append(path)
        return path.open("wb")

    files = write(generate(60, seed=2), tmp_path, truth_folder=tmp_path / "truth", open_binary=open_and_note)
    assert sorted(opened) == sorted(files)


def _rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def _is_document(line: bytes) -> bool:
    """Whether the line is UTF-8 JSON of an object whose text is a string that can be written as UTF-8 again."""
    try:
        row = json.loads(line.decode())
        return isinstance(row, dict) and isinstance(row.get("text"), str) and row["text"].encode() != b""
    except (UnicodeError, json.JSONDecodeError):
        return False

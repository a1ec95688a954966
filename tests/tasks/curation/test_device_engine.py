"""The engine `cudf` on a GPU, and on a device made of this machine's cores: all bytes are those of the local engine."""

import importlib.util
import random
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts.errors import DataError, MissingPackage
from tasks.curation import deduplication
from tasks.curation.config import DedupConfig, FuzzyConfig
from tasks.curation.engines import device_pairs, device_scan
from tasks.curation.engines.device import Device
from tasks.curation.engines.device_texts import FoldedTexts, band_keys_of, digests_of
from tasks.curation.engines.expansions import expansions
from tasks.curation.engines.steps import steps_of, steps_on
from tasks.curation.folding import COMPLEX, fold, fold_text, folding_table
from tasks.curation.minhash import band_keys
from tasks.runtime import Runtime
from tasks.stages import DEDUP


@pytest.fixture
def on_device(device, monkeypatch: pytest.MonkeyPatch):
    """Dedup runs on the device from now on."""
    monkeypatch.setattr(deduplication, "steps_of", lambda runtime: steps_on(device))


def texts_on(device: Device, texts: list[str]):
    data = np.frombuffer("".join(texts).encode(), dtype=np.uint8)
    bounds = np.concatenate(([0], np.cumsum([len(text.encode()) for text in texts], dtype=np.int64)))
    return device.xp.asarray(data), device.xp.asarray(bounds.astype(np.int64))


def test_characters_that_fold_to_several_fold_the_same_between_others() -> None:
    table, bounds, codes = expansions()
    extended = np.flatnonzero((folding_table() == COMPLEX) & (table != COMPLEX)).tolist()
    assert len(extended) > 1000
    for code in extended:
        entry = int(table[code])
        if entry >= -1:
            expected = chr(entry) if entry >= 0 else ""
        else:
            expected = "".join(map(chr, codes[bounds[-3 - entry] : bounds[-2 - entry]]))
        for before, after in (("あ", "い"), ("a", "\u0041"), ("が", "㌔"), (chr(code), "…")):
            text = before + chr(code) + after
            assert fold_text(text) == fold_text(before) + expected + fold_text(after), f"U+{code:04X}"


def test_what_depends_on_its_neighbours_stays_complex() -> None:
    table = expansions().table
    for character in "\u3099\u309a\u0301ﾞﾟΣ\u1161\u11a8\u0378":
        assert table[ord(character)] == COMPLEX, unicodedata.name(character, "unassigned")
    for character in "…㌔㈱½ﬁ":
        assert table[ord(character)] <= -3


ANY_TEXT = st.text(
    st.sampled_from("あいうガｶﾞか\u3099㌔…㈱Aａ \u3000\n\U000e0100葛😀ßİΣ") | st.characters(), max_size=40
)


@settings(max_examples=25, deadline=None)
@given(st.lists(ANY_TEXT, min_size=1, max_size=8))
def test_forms_digests_and_band_keys_are_those_of_the_local_engine(device, texts) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    folded_texts = FoldedTexts(device)
    portion = folded_texts.fold(*texts_on(device, texts))
    ours, expected = folded_texts.to_host(portion), fold(pa.array(texts, pa.large_string()))
    assert ours.bounds.tolist() == expected.bounds.tolist() and ours.codes.tolist() == expected.codes.tolist()
    fuzzy = FuzzyConfig(permutations=64, bands=16, rows=4)
    keys = device.to_host(band_keys_of(device, portion, fuzzy))
    assert np.array_equal(keys.T, band_keys(expected, fuzzy))
    digests = [tuple(row) for row in device.to_host(digests_of(device, portion)).tolist()]
    forms = [fold_text(text) for text in texts]
    for one in range(len(texts)):
        assert [digest == digests[one] for digest in digests] == [form == forms[one] for form in forms]


def both(run, monkeypatch: pytest.MonkeyPatch, device, corpus, config: DedupConfig | None = None):
    """The sealed results of the local engine and of the device."""
    config = config or DedupConfig()
    local = run(DEDUP, config, corpus=corpus)
    monkeypatch.setattr(deduplication, "steps_of", lambda runtime: steps_on(device))
    return local, run(DEDUP, config, corpus=corpus)


def check_equal(local, other) -> None:
    assert other.digest == local.digest
    assert other.manifest.summary == local.manifest.summary


def families(prose, generator: random.Random, number: int) -> list[tuple[str, str]]:
    """Originals with copies at similarities on both sides of the threshold."""
    rows = []
    for family in range(number):
        text = prose(family, 150)
        for copy in range(generator.randint(1, 5)):
            edits = list(text)
            for place in generator.sample(range(len(text)), generator.randint(0, 7) if copy else 0):
                edits[place] = generator.choice("亜ｱ…ガ")
            rows.append((f"{family:03d}-{copy}", "".join(edits)))
    return generator.sample(rows, len(rows))


@pytest.mark.parametrize(
    "config",
    [
        DedupConfig(),
        DedupConfig(exact=False),
        DedupConfig(fuzzy=None),
        DedupConfig(fuzzy=FuzzyConfig(ngram_characters=3, permutations=48, bands=16, rows=3, jaccard_threshold=0.7)),
    ],
    ids=["default", "near only", "exact only", "other sketch"],
)
def test_every_byte_is_that_of_the_local_engine(seal_corpus, run, prose, device, monkeypatch, config) -> None:
    rows = families(prose, random.Random(3), 40)
    corpus = seal_corpus({"train-00000": rows[:50], "train-00001": [], "validation-00000": rows[50:]})
    local, other = both(run, monkeypatch, device, corpus, config)
    check_equal(local, other)
    assert local.manifest.summary.counts["num_documents_removed"] > (20 if config.fuzzy else 5)


def test_big_buckets_and_full_memory_change_nothing(seal_corpus, run, prose, device, monkeypatch) -> None:
    template = prose(1, 300)
    rows = [(f"{n:03d}", template + prose(100 + n, 20 + n % 3 * 20)) for n in range(90)]
    corpus = seal_corpus({"train-00000": rows})
    monkeypatch.setattr(device_scan, "PORTION_BYTES", 5000)
    monkeypatch.setattr(device_pairs, "COMPACTED_CODES", 100)
    monkeypatch.setattr(device, "free_bytes", lambda: 96 * 12_000)
    local, other = both(run, monkeypatch, device, corpus)
    check_equal(local, other)
    assert 0 < local.manifest.summary.counts["num_pairs_compared"] < 90 * 89 // 2


def test_hard_texts_pass(seal_corpus, run, hard_texts, device, monkeypatch) -> None:
    texts = {name: text[:20_000] for name, text in hard_texts.items()}
    check_equal(*both(run, monkeypatch, device, seal_corpus({"train-00000": list(texts.items())})))


@pytest.mark.parametrize("texts", [[], [""], ["", "\u3000"]], ids=["none", "an empty one", "two empty ones"])
def test_a_corpus_of_nothing_passes(seal_corpus, run, device, monkeypatch, texts) -> None:
    rows = [(f"{n}", text) for n, text in enumerate(texts)]
    check_equal(*both(run, monkeypatch, device, seal_corpus({"train-00000": rows})))


def test_references_are_compared_with(seal_corpus, run, prose, device, monkeypatch, tmp_path) -> None:
    rows = families(prose, random.Random(5), 12)
    (tmp_path / "kept.jsonl").write_text(f'{{"id": "k", "text": "{rows[0][1]}"}}\n', encoding="utf-8")
    (tmp_path / "exam.jsonl").write_text(f'{{"id": "q", "text": "{rows[5][1][20:80]}"}}\n', encoding="utf-8")
    against = [
        {"kind": "kept", "name": "old", "path": tmp_path / "kept.jsonl"},
        {"kind": "evaluation", "name": "exam", "path": tmp_path / "exam.jsonl"},
    ]
    config = DedupConfig.model_validate({"against": against})
    local, other = both(run, monkeypatch, device, seal_corpus({"train-00000": rows}), config)
    check_equal(local, other)
    counts = local.manifest.summary.counts
    assert counts["removed_by_known_duplicate"] and counts["removed_by_contamination"]


def test_an_id_that_occurs_twice_is_refused(seal_corpus, run, on_device) -> None:
    with pytest.raises(DataError, match=r"`a`: found on more than one document"):
        run(DEDUP, DedupConfig(), corpus=seal_corpus({"train-00000": [("a", "一つ目"), ("a", "二つ目")]}))


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_without_its_packages_the_engine_names_the_command(tmp_path) -> None:
    with pytest.raises(MissingPackage, match=r"tsuzuki\[gpu\]"):
        steps_of(Runtime(store=tmp_path, engine="cudf"))

"""What is verified against the reference tokenizer, and that wrong ids are found wherever they are."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from data_contracts.errors import DataError
from data_contracts.rows import DOCUMENTS
from tasks.binarizing.encoders import Encoder, FastokensEncoder, Reference, TokenizersEncoder, load_reference
from tasks.binarizing.jobs import EncodeJob, PartTokens, Tools, encode
from tasks.binarizing.verification import sampled, unusual

PLAIN = "吾輩は猫である。名前はまだ無い。"

UNUSUAL = {
    "combining dakuten": "か\u3099",
    "accent apart from its letter": "cafe\u0301",
    "compatibility ideograph": "福\ufa1b",
    "angstrom sign": "10 \u212b",
    "conjoining jamo": "\u1112\u1161\u11ab",
    "emoji": "👍",
    "kanji beyond the BMP": "𠮷野家",
    "control character": "a\x0bb",
    "nul": "a\0b",
    "next line": "a\x85b",
    "private use": "\ue000",
    "unassigned": "\u0378",
    "line separator": "a\u2028b",
    "thin space": "a\u2009b",
    "long run of ASCII": "=" * 600,
    "long run of kana": "ー" * 200,
}
USUAL = {
    "empty": "",
    "plain": PLAIN,
    "composed dakuten": "が",
    "half and full width": "ﾊﾟｰﾄ ＡＢＣ　パート",
    "tabs and line ends": "a\tb\r\nc\n",
    "no-break space": "a\u00a0b",
    "Thai in NFC": "สวัสดี",
    "symbols": "①Ⅳ㍿→…—☆",
    "soft hyphen and zero width space": "a\u00adb\u200bc",
    "short run": "-" * 100,
}


@pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL)
def test_unusual_text_is_seen_wherever_it_stands(text):
    batch = pa.array([PLAIN, text, PLAIN, PLAIN * 100 + text, ""])
    assert unusual(batch).tolist() == [False, True, False, True, False]
    assert unusual(batch.slice(1, 3)).tolist() == [True, False, True]


@pytest.mark.parametrize("text", USUAL.values(), ids=USUAL)
def test_usual_text_is_not_worth_a_second_look(text):
    assert unusual(pa.array([text, PLAIN])).tolist() == [False, False]


@given(st.lists(st.text(max_size=30), max_size=8))
def test_text_out_of_nfc_or_beyond_the_bmp_is_always_unusual(texts):
    found = unusual(pa.array(texts, pa.string()))
    for text, is_unusual in zip(texts, found, strict=True):
        if not unicodedata.is_normalized("NFC", text) or max(text, default="") > "\uffff":
            assert is_unusual, text


@given(st.integers(1, 5000), st.lists(st.integers(1, 700), max_size=20))
def test_the_sample_lies_evenly_and_does_not_depend_on_the_cut(num_rows, sizes):
    whole = sampled(0, num_rows, num_rows)
    bounds = [0, *(b for b in np.cumsum(sizes).tolist() if b < num_rows), num_rows]
    pieces = [sampled(a, b - a, num_rows) for a, b in itertools.pairwise(bounds)]
    assert np.array_equal(np.concatenate(pieces), whole)
    assert whole[0] and whole.sum() >= min(num_rows, 8)
    assert np.diff(np.flatnonzero(whole)).max(initial=0) <= max(1, num_rows // 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A tokenizer of bytes, 0 to 255, and one control token, 256."""
    folder = tmp_path_factory.mktemp("tokenizer")
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(alphabet, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|endoftext|>"}', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def reference(folder) -> Reference:
    return load_reference(folder, False)


@pytest.fixture(scope="module")
def encoders(folder, reference) -> list[Encoder]:
    return [FastokensEncoder(folder, False), TokenizersEncoder(reference)]


class Faulty:
    """An encoder that gets every text with `wrong` in it wrong."""

    name = "faulty"

    def __init__(self, reference: Reference, wrong: str, becomes: int) -> None:
        self._right = TokenizersEncoder(reference)
        self.wrong = wrong
        self.becomes = becomes

    def encode(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, offsets = self._right.encode(texts)
        for number, text in enumerate(texts):
            if self.wrong in text:
                ids[offsets[number]] = self.becomes
        return ids, offsets


def job_of(folder: Path, texts: list[str]) -> EncodeJob:
    shard = folder / "train-00000.parquet"
    empty = {"source": "", "url": "", "title": "", "meta": "{}"}
    rows = [{"id": f"document-{number}", "text": text, **empty} for number, text in enumerate(texts)]
    pq.write_table(pa.Table.from_pylist(rows, DOCUMENTS), shard)
    return EncodeJob(shard, (0,), 0, len(texts), 0, folder / "part", folder, "faulty", True, False)


def encode_with_fault(folder: Path, reference: Reference, texts: list[str], wrong: str, becomes: int = 5) -> PartTokens:
    return encode(job_of(folder, texts), Tools(Faulty(reference, wrong, becomes), reference))


def test_a_wrong_id_in_the_sample_fails_with_shard_and_document(tmp_path, reference):
    texts = [f"{n}番目の文書" for n in range(100)]
    with pytest.raises(DataError, match=r"train-00000.parquet`: document document-24: its token ids are not the ref"):
        encode_with_fault(tmp_path, reference, texts, "24番目")
    assert encode_with_fault(tmp_path, reference, texts, "25番目").num_sampled == 9


def test_a_wrong_id_in_an_unusual_document_outside_of_the_sample_fails(tmp_path, reference):
    texts = [PLAIN] * 100
    texts[25] = "か\u3099"
    with pytest.raises(DataError, match="document-25"):
        encode_with_fault(tmp_path, reference, texts, "\u3099")
    assert encode_with_fault(tmp_path, reference, texts, "なし").num_unusual == 1


@pytest.mark.parametrize(("becomes", "found"), [(256, "became a control token"), (257, "above the vocabulary of 257")])
def test_a_control_token_or_an_unknown_id_fails_in_any_document(tmp_path, reference, becomes, found):
    texts = ["", PLAIN, *["文書"] * 30, "悪い文書", ""]
    with pytest.raises(DataError, match=f"document-32: .*{found}"):
        encode_with_fault(tmp_path, reference, texts, "悪い", becomes)


@given(texts=st.lists(st.text(max_size=40) | st.just("a<|endoftext|>b"), max_size=6))
def test_both_encoders_give_the_ids_of_the_reference_for_any_text(encoders, reference, texts):
    expected = [reference.ids(text).tolist() for text in texts]
    for encoder in encoders:
        ids, offsets = encoder.encode(texts)
        assert [ids[a:b].tolist() for a, b in itertools.pairwise(offsets)] == expected
        assert not reference.is_control[ids].any()

"""The preset as a stage of its own: on generated and on real documents, whatever the workers, shards and order."""

import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import parallel
from tasks.acquire import sample
from tasks.curation.config import FilterConfig
from tasks.curation.presets import WITH_MARKERS, uzushio_03a
from tasks.stages import FILTER

CORPUS = Path(__file__).parents[5] / "shared" / "corpus" / "ja" / "ja_wiki"
PRESET = uzushio_03a()


def reconciled(result, kept_ids, ledger, documents) -> dict[str, int]:
    """The counts of a run in which each document is kept or in the ledger, and each lost character in a text."""
    counts = result.manifest.summary.counts
    removed = ledger(result)
    ids = sorted(name for rows in documents.values() for name, _ in rows)
    assert sorted([*kept_ids(result), *(row["id"] for row in removed)]) == ids
    edits = pq.read_table(result.path / "edits.parquet").to_pylist()
    assert sum(edit["num_characters_removed"] for edit in edits) == counts["num_characters_edited_away"]
    inside = counts["num_characters_in"] - counts["num_characters_normalized_away"]
    assert inside - counts["num_characters_edited_away"] == (
        counts["num_characters_kept"] + counts["num_characters_removed"]
    )
    labels = {row["filter"] for row in removed}
    assert labels <= set(PRESET.cascade[0].labels)
    assert all(row["reason"].startswith(row["filter"]) for row in removed)
    return counts


def page(prose, seed: int) -> str:
    """A page with paths and link markers around Japanese prose, and the same frame on each."""
    return "\n\n".join(
        [
            "body>nav.menu>a\x1c\x02ホーム\x03",
            f"body>div.main>h2\x1c題 {seed}",
            *(f"body>div.main>p\x1c{prose(10 * seed + n, 150)}" for n in range(3)),
            "body>div.main>ul>li\x1c一つ目",
            f"body>div.main>ul>li\x1c\x02二つ目 {seed}\x03",
            "body>footer\x1c著作権はサイトの管理者にあります。",
        ]
    )


def test_pages_lose_their_frame_and_documents_that_repeat_are_thinned(seal_raw, run, kept_ids, ledger, prose) -> None:
    again = page(prose, 1000)
    documents = {
        "train-00000": [(f"page-{n}", page(prose, n)) for n in range(20)],
        "train-00001": [*((f"copy-{n}", again) for n in range(40)), ("short", "短い文です。")],
        "validation-00000": [("english", "The quick brown fox jumps over the lazy dog. " * 10)],
    }
    result = run(FILTER, PRESET, raw=seal_raw(documents))
    reconciled(result, kept_ids, ledger, documents)
    removed = {row["id"]: row["filter"] for row in ledger(result)}
    assert removed["short"] == "uzushio.1.DocLength" and removed["english"] == "uzushio.3.HiraganaRatio"
    copies = {name: label for name, label in removed.items() if name.startswith("copy")}
    assert 30 <= len(copies) < 40 and all("DeduplicateDocumentsPercentile" in label for label in copies.values())
    assert sum(name.startswith("page") for name in kept_ids(result)) == 20
    text = pq.read_table(result.shards()[0])["text"][3].as_py()
    assert text.startswith("## 題 3\n\n") and text.endswith("\n\n- 一つ目\n- 二つ目 3")
    assert not set(text) & set("\x02\x03\x1c") and "著作権" not in text and "ホーム" not in text
    bins = json.loads((result.path / "histograms.json").read_text())
    assert {row["label"] for row in bins} <= set(PRESET.cascade[0].labels) and len(bins) > 10


def test_generated_documents_reconcile(seal_raw, run, kept_ids, ledger, tmp_path) -> None:
    corpus = sample.generate(400, 3)
    sample.write(corpus, tmp_path / "sample", truth_folder=tmp_path / "truth")
    documents = read_shards(tmp_path / "sample")
    result = run(FILTER, PRESET, raw=seal_raw(documents))
    counts = reconciled(result, kept_ids, ledger, documents)
    assert counts["num_documents_kept"] > 0 and counts["num_documents_removed"] > 0


def read_shards(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Documents of JSON lines, with ids of their own."""
    shards: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(folder.rglob("*.jsonl.gz")):
        split, _, number = path.name.split(".")[0].partition("_")
        rows = shards.setdefault(f"{split}-{int(number or 0):05d}", [])
        with gzip.open(path, "rb") as lines:
            for place, line in enumerate(lines):
                try:
                    text = json.loads(line)["text"]
                    text.encode()
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
                rows.append((f"{path.name}:{place}", text))
    return shards


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus at {CORPUS}")
def test_real_documents_reconcile_whatever_workers_shards_and_order(
    seal_raw, run, kept_ids, ledger, monkeypatch
) -> None:
    documents = {name: rows[:400] for name, rows in read_shards(CORPUS).items()}
    raw = seal_raw(documents)
    alone = run(FILTER, PRESET, raw=raw)
    counts = reconciled(alone, kept_ids, ledger, documents)
    assert counts["removed_by_uzushio.3.HiraganaRatio"] > 0 and counts["num_documents_kept"] > 100
    monkeypatch.setattr(parallel, "INLINE_BYTES", 0)
    assert run(FILTER, PRESET, workers=2, raw=raw).digest == alone.digest
    merged = {"train-00000": [row for rows in documents.values() for row in rows][::-1]}
    other = run(FILTER, PRESET, raw=seal_raw(merged))
    assert sorted(kept_ids(other)) == sorted(kept_ids(alone))
    assert other.manifest.summary.counts == counts


PIECES = [
    "共通の段落です。",
    "共通の段落でした。",
    "li\x1c項目",
    "h2\x1c見出し",
    "nav\x1c広告",
    "\x02リンク\x03の後",
    "",
    "漢字",
]
SMALL = FilterConfig.model_validate(
    {
        "normalization": WITH_MARKERS,
        "cascade": [
            {
                "filter": "uzushio",
                "stages": [
                    {"name": "AdjacentDuplicateParagraphs"},
                    {"name": "MergeListTag"},
                    {"name": "MarkdownizeHeading"},
                    {"name": "NoContentDOM"},
                    {"name": "LargeFreqParagraphs", "count": 2, "freq": 3},
                    {"name": "HiraganaRatio", "low": 0.1},
                    {"name": "DeduplicateDocumentsPercentile", "expected": 2},
                ],
            }
        ],
    }
)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=5), max_size=10), st.integers(1, 3))
def test_order_and_shards_do_not_change_what_is_kept(seal_raw, run, kept_ids, documents, shards) -> None:
    rows = [(str(n), "\n\n".join(paragraphs)) for n, paragraphs in enumerate(documents)]
    whole = run(FILTER, SMALL, raw=seal_raw({"train-00000": rows}))
    parts = run(FILTER, SMALL, raw=seal_raw({f"train-{n:05d}": rows[::-1][n::shards] for n in range(shards)}))
    assert sorted(kept_ids(whole)) == sorted(kept_ids(parts))
    assert whole.manifest.summary.counts == parts.manifest.summary.counts

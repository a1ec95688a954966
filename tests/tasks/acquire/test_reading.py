"""Reading: shares of a file give what the whole gives; huge lines, bombs and damage are met within bounds."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import ROOT
from data_contracts.errors import SourceError
from tasks.acquire.config import LocalSource
from tasks.acquire.lines import JsonLines, Share, TooLong
from tasks.acquire.reading import SourceFile, read_file
from tasks.acquire.shards import ChunkResult, hashes_path
from tasks.acquire.sharing import num_shares, whole_file

TEXTS = ["雨", "ﾊﾝｶｸ　全角", "か\u3099", "👩‍👩‍👧", "", "改\n行\u2028", "x" * 3000]


def usual(number: int, text: str) -> bytes:
    meta = {"id": f"d{number}", "title": "題", "url": ""}
    return json.dumps({"text": text, "meta": meta}, ensure_ascii=number % 2 == 0).encode()


GOOD = st.builds(usual, st.integers(0, 9), st.sampled_from(TEXTS))
FLAT = st.sampled_from([b'{"text":"a","id":7}', b' {"text": "b", "topic": [1, null]}', b'{"text":"c","meta":3}'])
BLANK = st.sampled_from([b"", b"   ", b"\t", b"\r"])
BROKEN = st.sampled_from(
    [b'{"text": "cut', b"\xff\xfe", b"[1]", b'{"body": "x"}', b'{"text": 1}', b'{"text":"\\ud800"}']
)
LINES = st.lists(st.one_of(GOOD, GOOD, FLAT, BLANK, BROKEN), max_size=40)
ENDS = st.sampled_from([b"\n", b"\r\n"])


def packed(path: Path, content: bytes) -> None:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content, 1))
    elif path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(content)
    else:
        path.write_bytes(content)


def read(path: Path, folder: Path, parts: int = 1, per_chunk: int = 7, **config) -> list[ChunkResult]:
    (folder / "documents").mkdir(parents=True)
    source, config = SourceFile(path=path, name=path.name), LocalSource(path=path, **config)
    shares = [read_file(source, 0, "local", config, folder, Share(p, parts, per_chunk)) for p in range(parts)]
    return whole_file(source, shares)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows(folder: Path, kind: str) -> list[dict]:
    return [row for shard in sorted((folder / kind).glob("*.parquet")) for row in pq.read_table(shard).to_pylist()]


@given(
    lines=LINES, end=ENDS, last=st.booleans(), per_chunk=st.integers(1, 9), kind=st.sampled_from(["", ".gz", ".zst"])
)
@settings(max_examples=40, deadline=None)
def test_shards_quarantine_and_counts_do_not_depend_on_the_number_of_parts(
    tmp_path_factory, lines, end, last, per_chunk, kind
):
    folder = tmp_path_factory.mktemp("parts")
    path = folder / f"train_0.jsonl{kind}"
    content = end.join(lines) + (end if last else b"")
    packed(path, content)
    whole = read(path, folder / "1", per_chunk=per_chunk)
    for parts in (2, 3, 4):
        assert read(path, folder / str(parts), parts, per_chunk) == whole
        assert contents(folder / str(parts)) == contents(folder / "1")
    expect_every_line(content, folder / "1", whole)
    shutil.rmtree(folder)


def expect_every_line(content: bytes, folder: Path, chunks: list[ChunkResult]) -> None:
    """Compares with a reader that takes one line after the other."""
    documents, quarantine, num_blank, offset = {}, {}, 0, 0
    lines = content.split(b"\n") if content else []
    for number, line in enumerate(lines[:-1] if content.endswith(b"\n") else lines, 1):
        try:
            record = orjson.loads(line)
            assert isinstance(record["text"], str)
            documents[f"local/train_0.jsonl:{number}"] = record["text"]
        except (ValueError, TypeError, KeyError, AssertionError):
            if line.strip():
                quarantine[number] = (offset, line.rstrip(b"\r"))
            else:
                num_blank += 1
        offset += len(line) + 1
    found = {row["source"].replace(".gz", "").replace(".zst", ""): row["text"] for row in rows(folder, "documents")}
    assert found == documents
    assert {r["line"]: (r["byte_offset"], r["raw"]) for r in rows(folder, "quarantine")} == quarantine
    assert sum(c.num_blank for c in chunks) == num_blank
    assert sum(c.num_characters for c in chunks) == sum(map(len, documents.values()))


@given(
    content=st.lists(st.sampled_from([b"\n", b"a", b"bc" * 40, b"\r\n"]), max_size=60).map(b"".join),
    cuts=st.lists(st.integers(0, 4000), max_size=8),
    per_chunk=st.integers(1, 5),
    parts=st.integers(1, 4),
    bound=st.sampled_from([3, 80, 1000]),
)
@settings(max_examples=200, deadline=None)
def test_lines_do_not_depend_on_where_the_decompressor_cuts_its_blocks(content, cuts, per_chunk, parts, bound):
    edges = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    blocks = [content[a:b] for a, b in itertools.pairwise(edges)]
    found = {}
    for part in range(parts):
        reader = JsonLines(blocks, Share(part, parts, per_chunk), bound)
        for lines in reader:
            assert lines.chunk % parts == part
            for number, (line, offset) in enumerate(
                zip(lines.records(), lines.byte_offsets(), strict=False), lines.first
            ):
                assert (number - 1) // per_chunk == lines.chunk
                found[number] = (offset, line)
        assert reader.num_lines == len(content.split(b"\n")) - (content.endswith(b"\n") or not content)
    expected, offset = {}, 0
    for number, line in enumerate(content.split(b"\n"), 1):
        if line or offset < len(content):
            expected[number] = (offset, line if len(line) <= bound else TooLong(line[:4096], len(line)))
        offset += len(line) + 1
    assert found == expected


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), per_chunk=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_parquet_rows_do_not_depend_on_the_number_of_parts(tmp_path_factory, sizes, per_chunk):
    folder = tmp_path_factory.mktemp("parquet")
    path, number = folder / "train_0.parquet", 0
    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("topic", pa.list_(pa.string()))])
    with pq.ParquetWriter(path, schema) as writer:
        for size in sizes:
            texts = [None if n % 5 == 4 else f"本文{n}" for n in range(number, number + size)]
            table = {"id": range(number, number + size), "text": texts, "topic": [["雨"]] * size}
            writer.write_table(pa.table(table, schema))
            number += size
    whole = read(path, folder / "1", per_chunk=per_chunk)
    for parts in (2, 3, 4):
        assert read(path, folder / str(parts), parts, per_chunk) == whole
        assert contents(folder / str(parts)) == contents(folder / "1")
    assert [row["id"] for row in rows(folder / "1", "documents")] == [str(n) for n in range(number) if n % 5 != 4]
    assert [row["line"] for row in rows(folder / "1", "quarantine")] == [n + 1 for n in range(number) if n % 5 == 4]


def test_the_hashes_beside_a_shard_are_those_of_its_ids(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(usual(n, "雨") for n in range(20)))
    for chunk in read(tmp_path / "a.jsonl", tmp_path / "out"):
        assert chunk.shard is not None
        shard = tmp_path / "out" / chunk.shard.name
        assert len(np.load(hashes_path(shard))) == pq.read_metadata(shard).num_rows == chunk.num_documents


def test_a_huge_file_beside_small_ones_is_cut_and_the_small_ones_stay_whole():
    million = 1 << 20
    assert num_shares([1000 * million], 8) == [8]
    assert num_shares([1000 * million, 10 * million, 10 * million], 2) == [2, 1, 1]
    assert num_shares([100 * million] * 8, 2) == [1] * 8
    assert num_shares([20 * million], 8) == [1]
    assert num_shares([0], 4) == [1]


PEAK = """
import resource, sys
from pathlib import Path
from tasks.acquire.config import LocalSource
from tasks.acquire.reading import SourceFile, read_file
path, folder = Path(sys.argv[1]), Path(sys.argv[2])
(folder / "documents").mkdir(parents=True)
config = LocalSource(path=path, max_line_bytes=1 << 20, max_uncompressed_bytes=1 << 40)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_file(SourceFile(path=path, name=path.name), 0, "local", config, folder)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10)
"""


def test_an_endless_line_is_quarantined_and_never_in_memory_whole(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.GzipFile(path, "wb", 1) as file:
        file.write(usual(1, "雨") + b'\n{"text": "')
        for _ in range(200):
            file.write(b"\xe3\x81\x82" * (1 << 18))
        file.write(b'"}\n' + usual(2, "雪") + b"\n")
    command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / "out")]
    grown = int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    assert grown < 60 << 20
    assert [row["text"] for row in rows(tmp_path / "out", "documents")] == ["雨", "雪"]
    (bad,) = rows(tmp_path / "out", "quarantine")
    length = len(b'{"text": ""}') + 200 * 3 * (1 << 18)
    assert bad["reason"] == (f"too long: {length:,} bytes, expected at most {1 << 20:,} (`source.max_line_bytes`)")
    assert (bad["line"], bad["byte_offset"], len(bad["raw"])) == (2, len(usual(1, "雨")) + 1, 4096)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_decompression_bomb_stops_at_the_bound_and_names_it(tmp_path, name):
    path = tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.table({"text": [f"{n}" + "あ" * 100_000 for n in range(100)]}), path, use_dictionary=False)
    else:
        packed(path, b'{"text": "' + b"a" * 30_000_000 + b'"}\n')
    with pytest.raises(SourceError, match=rf"{name}`: it unpacks to .* at most 10,000,000\nhint: .*max_uncompressed"):
        read(path, tmp_path / "out", max_uncompressed_bytes=10_000_000)
    assert len(read(path, tmp_path / "again", max_uncompressed_bytes=40_000_000)) > 0


def test_a_parquet_bomb_that_hides_in_a_dictionary_is_found_by_what_comes_out(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["あ" * 10_000] * 5_000}), path)
    size = pq.read_metadata(path).row_group(0).total_byte_size
    assert size < 1_000_000 < 5_000 * 30_000
    with pytest.raises(SourceError, match="it unpacks to"):
        read(path, tmp_path / "out", max_uncompressed_bytes=1_000_000)


def test_a_plain_file_has_no_bound_as_it_is_as_large_as_it_looks(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(usual(1, "雨" * 1000))
    assert read(tmp_path / "a.jsonl", tmp_path / "out", max_uncompressed_bytes=10)[0].num_documents == 1


@pytest.mark.parametrize("place", [12, 200, -6])
def test_a_flipped_byte_in_a_gzip_is_a_source_error_that_names_the_file(tmp_path, place):
    content = bytearray(gzip.compress(b"\n".join(usual(n, f"本文{n * n}") for n in range(500))))
    content[place] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(SourceError, match=r"a.jsonl.gz`: .*expected a whole"):
        read(tmp_path / "a.jsonl.gz", tmp_path / "out", max_quarantined_share=1)


def test_fields_that_json_cannot_hold_are_quarantined_not_fatal(tmp_path):
    deep = b"[" * 400 + b"]" * 400
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "x", "deep": ' + deep + b"}\n" + usual(1, "雨"))
    read(tmp_path / "a.jsonl", tmp_path / "out")
    (bad,) = rows(tmp_path / "out", "quarantine")
    assert bad["reason"].startswith("fields that cannot be kept as JSON")

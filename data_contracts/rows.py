"""The rows that cross a border, as pyarrow schemas, and how they are written."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

DOCUMENTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),  # unique in a corpus
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),  # "<source name>/<file>:<line, from 1>"
        pa.field("url", pa.string(), nullable=False),  # empty if unknown
        pa.field("title", pa.string(), nullable=False),  # empty if unknown
        pa.field("meta", pa.string(), nullable=False),  # every other field of the record, as a JSON object
    ]
)

LEDGER = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("filter", pa.string(), nullable=False),  # which filter or dedup step removed it
        pa.field("score", pa.float64(), nullable=False),  # what was measured, in the filter's unit
        pa.field("threshold", pa.float64(), nullable=False),  # the bound that the score broke
        pa.field("reason", pa.string(), nullable=False),  # one sentence with figure and bound
        pa.field("text", pa.string(), nullable=False),  # the text that was removed
        pa.field("source", pa.string(), nullable=False),  # as in DOCUMENTS
        pa.field("split", pa.string(), nullable=False),  # split of the shard it came in
        pa.field("cluster", pa.string()),  # duplicate cluster (dedup and split only)
        pa.field("kept_id", pa.string()),  # the document of that cluster that stays
        pa.field("matched_id", pa.string()),  # the document that `score` compares it with
    ]
)

EDITS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),  # split of the shard it came in
        pa.field("filter", pa.string(), nullable=False),  # the step that took something out of the text
        pa.field("num_places", pa.int64(), nullable=False),  # how many pieces
        pa.field("num_characters_removed", pa.int64(), nullable=False),  # how much shorter the text became
        pa.field(
            "removed", pa.string(), nullable=False
        ),  # the pieces, a line each; only how many where they are private
    ]
)

QUARANTINE = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # from 1; parquet sources: the row, from 1
        pa.field("byte_offset", pa.int64(), nullable=False),  # in the uncompressed file; parquet sources: -1
        pa.field("reason", pa.string(), nullable=False),
        pa.field("raw", pa.binary(), nullable=False),  # the first 4,096 bytes of the line
    ]
)

TOKENS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("num_characters", pa.int64(), nullable=False),
        pa.field("num_tokens", pa.int64(), nullable=False),  # the end-of-document token included
    ]
)

PARQUET_OPTIONS: dict[str, Any] = {"compression": "zstd", "compression_level": 1, "write_statistics": False}
"""One set of writer options, so that equal rows give equal bytes in every stage.

Level 1 of zstd: reading JSON lines into shards is a fifth faster than at level 3, whose files are a fifth smaller.
"""

ROWS_PER_GROUP = 8192

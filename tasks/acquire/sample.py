"""The bundled sample corpus: Japanese documents made from true facts, with planted faults and the truth about them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tasks.acquire.sample_dice import Dice
from tasks.acquire.sample_duplicates import NEAR, disguise, distant_variant, grams, near_duplicate
from tasks.acquire.sample_foreign import chinese, english, korean
from tasks.acquire.sample_noise import BROKEN_KINDS, broken_line, repetition, stub, symbol_spam
from tasks.acquire.sample_plan import GOOD, SMALLEST, Plan, Shard, make_plan
from tasks.acquire.sample_prose import MAX_CYCLES, Page, compose_page, free_draft, plan_pages, render
from tasks.acquire.sample_truth import Fact, FactPool, Question, draw_facts, draw_questions

FOLDER = "ja/ja_wiki"
_MOST_CORE_FACTS = 120
_PAGES_A_CORE_FACT = 1.4  # good documents for each core fact, enough for six cycles through the pages
_FREE_EVERY = 10  # every tenth good document stands outside the page plan, and all do when the plan is used up
_VALIDATION_CYCLE = 1000  # far from the cycles of training, so that facts meet other neighbours
_VALIDATION_CYCLES = 3
_CROWDED = 0.9  # similarity of several near-duplicates to their base, so that they are near-duplicates of each other
_GZIP_LEVEL = 6
# Streams of random numbers, one for each purpose, so that a change in one leaves the others as they were.
_PLAN, _FACTS, _QUESTIONS, _PAGES, _GOOD_TRAIN, _GOOD_VALIDATION, _CLUSTER, _VARIANT, _NOISE, _BROKEN = range(10)


class SampleDocument(NamedTuple):
    """One planted document and the truth about it."""

    id: str
    text: str
    title: str
    url: str
    split: str  # "train" or "validation": the shard it ships in
    cluster: str  # id of the base document of its duplicate cluster; its own id when it is no duplicate
    fault: str  # empty for a good document, else a kind of `sample_plan.KINDS`
    jaccard: float  # character-5-gram similarity to `derived_from`; 1.0 when there is none
    derived_from: str  # id of the document this one is an edit of: its cluster's base, or a variant's original


class BrokenLine(NamedTuple):
    """A line that is no document, at its 1-based number in `file` (relative to the corpus folder)."""

    file: str
    line: int
    kind: str


@dataclass(frozen=True)
class SampleCorpus:
    """A corpus that makes each document when it is asked for; any document costs about the same, in any order."""

    num_documents: int
    seed: int
    facts: tuple[Fact, ...]
    questions: tuple[Question, ...]
    pool: FactPool
    plan: Plan
    pages: tuple[list[Page], list[Page]]  # of training and of validation

    def documents(self) -> Iterator[SampleDocument]:
        """All documents, shard by shard in the order of the files."""
        return map(self.document, range(self.num_documents))

    def document(self, position: int) -> SampleDocument:
        """The document at `position`, counted from 0 over all shards."""
        fault = self.plan.kind(position)
        own, cluster, source, similarity = _id(position), _id(position), "", 1.0
        if position in self.plan.cluster_of:
            members = self.plan.clusters[self.plan.cluster_of[position]]
            title, text, similarity = self._duplicate(members, position)
            cluster = source = _id(members[0])
        elif position in self.plan.variant_of:
            original = self.plan.variant_of[position]
            title, base = self._good(original)
            text, similarity = distant_variant(base, grams(base), Dice(self.seed, _VARIANT, position))
            source = _id(original)
        else:
            title, text = self._good(position) if fault == GOOD else self._noise(fault, position)
        url = f"https://example.org/wiki/{own.removeprefix('sample-')}"
        split = "train" if position < self.plan.num_train else "validation"
        return SampleDocument(own, text, title, url, split, cluster, fault, similarity, source)

    def broken_lines(self) -> tuple[BrokenLine, ...]:
        """All broken lines, file by file."""
        places = [(shard.name, line) for shard in self.plan.shards for line in shard.broken]
        kinds = Dice(self.seed, _BROKEN).some(BROKEN_KINDS, len(places))
        pairs = zip(places, kinds, strict=True)
        return tuple(BrokenLine(f"{FOLDER}/{name}", line, kind) for (name, line), kind in pairs)

    def lines(self, shard: Shard, note: Callable[[SampleDocument], object]) -> Iterator[bytes]:
        """The JSON lines of one shard, broken ones among them; `note` is called with each document on the way."""
        file = f"{FOLDER}/{shard.name}"
        broken = {at.line: (number, at.kind) for number, at in enumerate(self.broken_lines()) if at.file == file}
        position = shard.first
        for line in range(1, shard.stop - shard.first + len(broken) + 1):
            if line in broken:
                yield self._broken(*broken[line])
                continue
            document = self.document(position)
            note(document)
            yield _json_line(_row(document))
            position += 1

    def _good(self, position: int) -> tuple[str, str]:
        """Title and text of a good document."""
        train = position < self.plan.num_train
        ordinal = self.plan.rank[position]
        dice = Dice(self.seed, _GOOD_TRAIN if train else _GOOD_VALIDATION, ordinal)
        pages = self.pages[0 if train else 1]
        turn = ordinal - ordinal // _FREE_EVERY
        if ordinal % _FREE_EVERY != _FREE_EVERY - 1 and turn < len(pages):
            draft = compose_page(pages[turn], self.pool.everything, dice, with_cloze=train)
        else:
            draft = free_draft(self.pool.everything, dice, with_cloze=train)
        return draft.title, render(draft, dice)

    def _duplicate(self, members: tuple[int, ...], wanted: int) -> tuple[str, str, float]:
        """Title, text and similarity of one planted duplicate; its cluster is made in order up to it."""
        title, base = self._good(members[0])
        dice = Dice(self.seed, _CLUSTER, members[0])
        relatives = [grams(base)]
        low = _CROWDED if len(members) > 2 else NEAR[0]
        for member in members[1:]:
            if self.plan.kind(member) == "exact_duplicate":
                text, similarity = disguise(base, dice), 1.0
            else:
                text, similarity = near_duplicate(base, relatives, dice, low)
                relatives.append(grams(text))
            if member == wanted:
                return title, text, similarity
        raise AssertionError(f"document {wanted} is not in its own cluster")

    def _noise(self, fault: str, position: int) -> tuple[str, str]:
        """Title and text of a document of another language or of no use."""
        dice = Dice(self.seed, _NOISE, position)
        if fault == "stub":
            return stub(self.pool.everything, dice)
        if fault == "repetition":
            return repetition(self.pool.everything, self.plan.rank[position], dice)
        makers = {"english": english, "chinese": chinese, "korean": korean, "symbol_spam": symbol_spam}
        return makers[fault](dice)

    def _broken(self, number: int, kind: str) -> bytes:
        dice = Dice(self.seed, _BROKEN, number)
        return broken_line(kind, render(free_draft(self.pool.everything, dice, with_cloze=False), dice), number) + b"\n"


def generate(num_documents: int, seed: int) -> SampleCorpus:
    """The corpus of `num_documents` documents (and up to 12 broken lines) that belongs to `seed`, on any platform."""
    if num_documents < SMALLEST:
        raise ValueError(f"`num_documents`: found {num_documents}, expected at least {SMALLEST}")
    plan = make_plan(num_documents, Dice(seed, _PLAN))
    num_train, num_validation = (good - good // _FREE_EVERY for good in plan.num_good)
    pool = draw_facts(min(_MOST_CORE_FACTS, int(num_train / _PAGES_A_CORE_FACT)), Dice(seed, _FACTS))
    questions = draw_questions(pool.core, Dice(seed, _QUESTIONS))
    draw = partial(plan_pages, pool, seed=Dice(seed, _PAGES).below(2**30))
    pages = (draw(num_train, 0, MAX_CYCLES), draw(num_validation, _VALIDATION_CYCLE, _VALIDATION_CYCLES))
    return SampleCorpus(num_documents, seed, pool.core, questions, pool, plan, pages)


def _open_new(path: Path) -> BinaryIO:
    return path.open("wb")


def write(
    corpus: SampleCorpus,
    folder: Path,
    *,
    truth_folder: Path | None = None,
    open_binary: Callable[[Path], BinaryIO] = _open_new,
) -> tuple[Path, ...]:
    """Write the shards in LLM-JP v3 layout and, if its folder is given, the truth; returns the files written.

    The bytes are equal on every run with the same zlib. Documents are made once, and at most one is in memory.
    """
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    truth: list[Path] = []
    with ExitStack() as stack:
        note: Callable[[SampleDocument], object] = _ignore
        if truth_folder is not None:
            truth = _write_tables(corpus, truth_folder, open_binary)
            note = _note_into(stack.enter_context(open_binary(truth[0])))
        for shard in corpus.plan.shards:
            raw = stack.enter_context(open_binary(folder / FOLDER / shard.name))
            with gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0) as packed:
                packed.writelines(corpus.lines(shard, note))
    return (*(folder / FOLDER / shard.name for shard in corpus.plan.shards), *truth)


def write_truth(
    corpus: SampleCorpus, folder: Path, *, open_binary: Callable[[Path], BinaryIO] = _open_new
) -> tuple[Path, ...]:
    """Write the truth alone, as JSON lines; it makes every document again, which `write` can spare."""
    files = _write_tables(corpus, folder, open_binary)
    with open_binary(files[0]) as out:
        note = _note_into(out)
        for document in corpus.documents():
            note(document)
    return tuple(files)


def _write_tables(corpus: SampleCorpus, folder: Path, open_binary: Callable[[Path], BinaryIO]) -> list[Path]:
    """Write the truth but for `documents.jsonl`; returns the paths of all truth files, that one first."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"facts": corpus.facts, "questions": corpus.questions, "broken_lines": corpus.broken_lines()}
    for name, rows in tables.items():
        with open_binary(folder / f"{name}.jsonl") as out:
            out.writelines(_json_line(row._asdict()) for row in rows)
    return [folder / f"{name}.jsonl" for name in ("documents", *tables)]


def _note_into(out: BinaryIO) -> Callable[[SampleDocument], object]:
    return lambda document: out.write(_json_line({k: v for k, v in document._asdict().items() if k != "text"}))


def _ignore(document: SampleDocument) -> None:
    """Note nothing."""


def _id(position: int) -> str:
    return f"sample-{position:06d}"


def _row(document: SampleDocument) -> dict[str, object]:
    return {"text": document.text, "meta": {"id": document.id, "title": document.title, "url": document.url}}


def _json_line(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"

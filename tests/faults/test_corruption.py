"""Bytes that went bad: in the source, between two stages of a running pipeline, and in a store that lay for a while."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pyarrow.parquet as pq
import pytest
from faulting import FaultLog, Recovery, assert_nothing_is_left
from plain_runs import run_plainly

from command_line import MICRO, Tsuzuki, digests
from data_contracts.errors import DamagedArtifact, QuarantineLimitError, SourceError
from flows.inspecting.inspection import verify_path
from flows.inspecting.repair import repair_path
from tasks.acquire import sample
from tasks.stages import STAGES

pytestmark = pytest.mark.faults

NUM_DOCUMENTS = 240
BOMB_CHARACTERS = 20 << 20
LARGE_BYTES = 40 << 20
"""Large enough to be replaced while it is read."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `corpus/`, three whole shards."""
    corpus = tmp_path_factory.mktemp("good") / "corpus"
    corpus.mkdir()
    documents = list(sample.generate(NUM_DOCUMENTS, seed=7).documents())
    for number, name in enumerate(("a", "b", "c")):
        rows = [json.dumps({"id": d.id, "text": d.text}, ensure_ascii=False) for d in documents[number::3]]
        (corpus / f"{name}.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode(), mtime=0))
    return corpus


@pytest.fixture
def corpus(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "corpus")


def source_of(corpus: Path, max_quarantined_share: float = 0.1) -> str:
    values = {"kind": "local", "path": str(corpus), "max_line_bytes": 1 << 20}
    return f"source={json.dumps(values | {'max_quarantined_share': max_quarantined_share})}"


def assert_recovers(recovery: Recovery, corpus: Path, good: Path, store: Path) -> None:
    """Good shards in their place, the same command ends like one that never saw others."""
    shutil.rmtree(corpus)
    shutil.copytree(good, corpus)
    recovery.begin()
    run_plainly(store, until="filter", assignments=(source_of(corpus),))
    run_plainly(store.parent / "undisturbed", until="filter", assignments=(source_of(good),))
    assert newest_digests(store) == digests(store.parent / "undisturbed")
    for partial in store.glob(".partial/acquire-*"):
        shutil.rmtree(partial)  # of the poisoned corpus: it would be continued if that came back
    assert_nothing_is_left(store)


def newest_digests(store: Path) -> dict[str, str]:
    manifests = [json.loads(path.read_bytes()) for path in store.glob("[!.]*/*/manifest.json")]
    return {m["stage"]: m["digest"] for m in sorted(manifests, key=lambda m: m["created_at"])}


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def fill_with_garbage(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b\x08\x00" + bytes(range(256)) * 8)


def test_a_shard_that_is_cut_short_fails_by_name_until_it_is_replaced(corpus, good, tmp_path, fault_log):
    store = tmp_path / "store"
    with fault_log.trying("poisoned shard") as recovery:
        cut_short(corpus / "b.jsonl.gz")
        words = ("run", "demo", "--config", MICRO, "--set", source_of(corpus), "--store", store, "--until", "filter")
        told = Tsuzuki()(*words, code=1).stderr
        assert f"error: `{corpus}/b.jsonl.gz`: " in told
        assert "\nhint: fetch or export the file again" in told
        assert "Traceback" not in told
        assert not digests(store)
        assert_recovers(recovery, corpus, good, store)


def test_a_shard_of_garbage_fails_by_name_until_it_is_replaced(corpus, good, tmp_path, fault_log):
    with fault_log.trying("poisoned shard") as recovery:
        fill_with_garbage(corpus / "b.jsonl.gz")
        with pytest.raises(SourceError, match=r"b\.jsonl\.gz.*\nhint: fetch or export the file again"):
            run_plainly(tmp_path / "store", until="filter", assignments=(source_of(corpus),))
        assert_recovers(recovery, corpus, good, tmp_path / "store")


def add_poisoned_lines(shard: Path) -> None:
    """In the middle: text that is no UTF-8, JSON cut short, and a line that unpacks to many times its size."""
    lines = gzip.decompress(shard.read_bytes()).split(b"\n")
    bomb = b'{"id": "bomb", "text": "' + b"a" * BOMB_CHARACTERS + b'"}'
    lines[10:10] = [b'{"id": "x", "text": "\xff\xfe\x80"}', '{"id": "半", "text": "途中'.encode(), bomb]
    shard.write_bytes(gzip.compress(b"\n".join(lines), mtime=0))


def test_poisoned_lines_are_accounted_for_below_the_limit_and_fail_above_it(corpus, good, tmp_path, fault_log):
    store = tmp_path / "store"
    with fault_log.trying("poisoned shard") as recovery:
        add_poisoned_lines(corpus / "b.jsonl.gz")
        with pytest.raises(QuarantineLimitError, match=r"b\.jsonl\.gz"):
            run_plainly(store, until="filter", assignments=(source_of(corpus, 0.001),))
        assert not digests(store)
        run_plainly(store, until="filter", assignments=(source_of(corpus),))
        lines = Tsuzuki()("inspect", store, "--ledger", "--json").stdout.splitlines()
        acquired = json.loads(lines[0])
        assert acquired["documents"]["in"] == NUM_DOCUMENTS + 3
        assert acquired["documents"]["quarantined"] == 3
        assert not any(json.loads(line)["problems"] for line in lines)
        rows = pq.read_table(next(store.glob("acquire/*/quarantine.parquet"))).to_pylist()
        assert [(row["file"], row["line"]) for row in rows] == [("b.jsonl.gz", line) for line in (11, 12, 13)]
        assert len({row["reason"] for row in rows}) == 3
        assert_recovers(recovery, corpus, good, store)


def test_a_shard_that_is_replaced_while_it_is_read_is_refused(corpus, good, tmp_path, fault_log):
    store, large = tmp_path / "store", tmp_path / "large"
    large.mkdir()
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        shutil.copy(corpus / name, large)
    row = json.dumps({"id": "長", "text": "続" * 1000}, ensure_ascii=False).encode() + b"\n"
    (large / "c.jsonl").write_bytes(row * (LARGE_BYTES // len(row)))
    with fault_log.trying("shard replaced while it is read") as recovery:
        (tmp_path / "new").write_bytes(row * 3)
        replacing = Thread(target=replace_when_begun, args=(store, tmp_path / "new", large / "c.jsonl"))
        replacing.start()
        with pytest.raises(SourceError, match=r"c\.jsonl`: its content changed while it was read"):
            run_plainly(store, until="filter", assignments=(source_of(large),))
        replacing.join()
        assert not digests(store)
        assert_recovers(recovery, corpus, good, store)


def replace_when_begun(store: Path, new: Path, old: Path) -> None:
    """As soon as the first shard was read; this thread ends then."""
    while not list(store.glob(".partial/acquire-*/**/train-*")):
        time.sleep(0.001)
    new.replace(old)


def shards_of_filter(store: Path) -> Iterator[Path]:
    return store.glob("filter/*/documents/*.parquet")


def test_output_of_equal_size_is_named_when_the_next_stage_cannot_read_it(tmp_path, undisturbed, fault_log):
    """Opening looks at sizes alone, so that only `verify` makes an end to it."""
    store = tmp_path / "store"
    with fault_log.trying("output damaged between stages") as recovery:
        run_plainly(store, until="filter")
        shard = next(shards_of_filter(store))
        shard.write_bytes(b"\0" * shard.stat().st_size)
        for _ in range(2):
            with pytest.raises(
                DamagedArtifact, match=f"{shard}`: found sha256 .*\nhint: .*tsuzuki verify STORE --repair"
            ):
                run_plainly(store, until="dedup")
        recovery.begin()
        Tsuzuki()("verify", store, "--repair")
        assert run_plainly(store, until="dedup") == ["cached", "cached", "built"]
    assert_like(undisturbed, store)


def assert_like(undisturbed: Path, store: Path) -> None:
    """As far as that store goes."""
    expected = digests(undisturbed)
    assert digests(store) == {stage: expected[stage] for stage in ("acquire", "filter", "dedup")}
    assert_nothing_is_left(store)


def flip_a_bit(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)


def cut(folder: Path, name: str) -> None:
    cut_short(folder / name)


def delete(folder: Path, name: str) -> None:
    (folder / name).unlink()


def spoil_the_manifest(folder: Path, name: str) -> None:
    (folder / "manifest.json").write_bytes(b"\0" * 100)


DAMAGES: dict[str, Callable[[Path, str], None]] = {
    "bits flipped in the store": flip_a_bit,
    "files cut in the store": cut,
    "files deleted in the store": delete,
    "manifest unreadable": spoil_the_manifest,
}


def test_the_damaged_artifact_of_each_stage_in_turn_is_repaired(tmp_path, undisturbed, fault_log):
    store = shutil.copytree(undisturbed, tmp_path / "store")
    expected = digests(undisturbed)
    for number, stage in enumerate(STAGES):
        fault = list(DAMAGES)[number % len(DAMAGES)]
        with fault_log.trying(fault) as recovery:
            folder = next((store / stage).iterdir())
            for entry in json.loads((folder / "manifest.json").read_bytes())["files"]:
                if entry["bytes"]:
                    DAMAGES[fault](folder, entry["name"])
            recovery.begin()
            deeds = {outcome.path.parent.name: outcome.deed for outcome in repair_path(store) if outcome.deed}
            assert deeds == {stage: "discarded" if fault == "manifest unreadable" else "rebuilt"}
            statuses = run_plainly(store)
            assert statuses.count("cached") == len(STAGES) - (fault == "manifest unreadable")
            assert digests(store) == expected
    assert not [damage for _, damage in verify_path(store) if damage]
    assert_nothing_is_left(store)


def test_verify_repairs_a_delivery_from_the_command_line(tmp_path, undisturbed, fault_log: FaultLog):
    store = shutil.copytree(undisturbed, tmp_path / "store")
    with fault_log.trying("bits flipped in the store"):
        flip_a_bit(next((store / "deliver").iterdir()), "README.md")
        result = Tsuzuki()("verify", store, code=1)
        assert f"hint: `tsuzuki verify {store} --repair`" in result.stderr
        lines = [json.loads(line) for line in Tsuzuki()("verify", store, "--repair").stdout.splitlines()]
        assert [line["repair"] for line in lines if "repair" in line] == ["rebuilt"]
        assert all(line["whole"] for line in lines) and len(lines) == len(STAGES)
        Tsuzuki()("verify", store)
    assert digests(store) == digests(undisturbed)

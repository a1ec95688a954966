"""What a download that broke off, was killed, or had company leaves to be fetched."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from data_contracts.errors import SourceError, StorageError, TransientSourceError
from downloads import fetch_corpus, fetched, parts
from gitlab_server import COMMIT, WIKI, GitLabServer, half_then_close, half_then_reset, sha256_of, status, times
from tasks.acquire import downloading
from tasks.acquire.patience import Stopped, in_parallel

SUPPORT = Path(__file__).resolve().parents[2] / "support"
FETCH = "import sys, pathlib, downloads; downloads.fetch_corpus(pathlib.Path(sys.argv[1]), sys.argv[2])"


def noise(seed: int, size: int = 1 << 20) -> bytes:
    return gzip.compress(random.Random(seed).randbytes(size), 0, mtime=0)


FILES = {f"{WIKI}/train_{n}.jsonl.gz": noise(n) for n in range(3)}
RIGHT = {sha256_of(content) for content in FILES.values()}
SIZE = sum(len(content) for content in FILES.values())


@pytest.fixture
def gitlab():
    with GitLabServer(FILES) as server:
        yield server


def start(store: Path, gitlab: GitLabServer) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])}
    return subprocess.Popen([sys.executable, "-c", FETCH, str(store), gitlab.url], env=environment)


def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


@pytest.mark.parametrize("fault", [half_then_close, half_then_reset])
def test_what_broke_off_is_continued_by_a_range(gitlab, tmp_path, fault):
    gitlab.faults["object"] = times(3, fault)
    fetch_corpus(tmp_path, gitlab.url)
    ranges = [int(s.headers["Range"].split("=")[1].rstrip("-")) for s in gitlab.requests if "Range" in s.headers]
    assert ranges and min(ranges) > 100_000
    assert set(fetched(tmp_path)) == RIGHT and not parts(tmp_path)


def test_headway_renews_the_tries(gitlab, tmp_path, monkeypatch):
    gitlab.faults["object"] = half_then_close  # each try brings half of what is left
    monkeypatch.setattr(downloading, "RENEWING_BYTES", 64)
    with pytest.raises(TransientSourceError):
        fetch_corpus(tmp_path, gitlab.url)
    assert max(len(part) for part in parts(tmp_path)) > (1 << 20) - 1000


def test_after_kill_9_only_what_is_missing_is_fetched(gitlab, tmp_path):
    gitlab.piece_seconds = 0.02  # 64 KiB each, so a file takes a third of a second
    process = start(tmp_path, gitlab)
    until(lambda: gitlab.sent_bytes > SIZE // 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(0.1)
    on_disk = sum(map(len, parts(tmp_path))) + sum(map(len, fetched(tmp_path).values()))
    assert 0 < on_disk < SIZE
    gitlab.sent_bytes, gitlab.piece_seconds = 0, 0.0
    gitlab.requests.clear()
    again = start(tmp_path, gitlab)
    assert again.wait() == 0
    assert gitlab.sent_bytes == SIZE - on_disk
    assert set(fetched(tmp_path)) == RIGHT and not parts(tmp_path)
    assert not {"commits", "tree", "files"} & set(gitlab.kinds())


def test_two_processes_fetch_each_object_once(gitlab, tmp_path):
    gitlab.piece_seconds = 0.01
    both = [start(tmp_path, gitlab) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert gitlab.kinds().count("object") == len(FILES)
    assert set(fetched(tmp_path)) == RIGHT and not parts(tmp_path)


def test_a_part_of_something_else_is_fetched_anew(gitlab, tmp_path):
    (tmp_path / ".downloads").mkdir(parents=True)
    for number, name in enumerate(RIGHT):
        (tmp_path / ".downloads" / f"{name}.part").write_bytes(b"x" * (1000 if number else 3 << 20))
    fetch_corpus(tmp_path, gitlab.url)
    assert set(fetched(tmp_path)) == RIGHT and not parts(tmp_path)


def test_a_whole_part_is_put_in_place_without_a_request(gitlab, tmp_path):
    (tmp_path / ".downloads").mkdir(parents=True)
    for content in FILES.values():
        (tmp_path / ".downloads" / f"{sha256_of(content)}.part").write_bytes(content)
    fetch_corpus(tmp_path, gitlab.url)
    assert "object" not in gitlab.kinds() and set(fetched(tmp_path)) == RIGHT


def test_when_one_file_fails_the_others_stop_soon_and_keep_what_came(gitlab, tmp_path):
    gitlab.piece_seconds = 0.3
    failing = sorted(FILES)[2]
    oid = sha256_of(FILES[failing])

    def fault(server, http) -> bool:
        if oid not in http.path:
            return False
        time.sleep(0.3)
        return status(404)(server, http)

    gitlab.faults["object"] = fault
    started = time.monotonic()
    with pytest.raises(SourceError, match=f"{oid}`: HTTP 404"):
        fetch_corpus(tmp_path, gitlab.url)
    assert time.monotonic() - started < 3  # a whole file takes 5 s
    assert len(parts(tmp_path)) == 2 and not fetched(tmp_path)
    assert all(any(content.startswith(part) for content in FILES.values()) for part in parts(tmp_path))


def test_an_interrupt_stops_every_file(gitlab, tmp_path):
    gitlab.piece_seconds = 0.4
    process = start(tmp_path, gitlab)
    until(lambda: gitlab.sent_bytes > 3 * (64 << 10))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) != 0
    assert parts(tmp_path) and not fetched(tmp_path)


def test_a_wait_between_tries_ends_when_another_request_fails():
    stop = threading.Event()

    def work(item: int) -> None:
        if item:
            raise SourceError("gone")
        if stop.wait(20):
            raise Stopped

    started = time.monotonic()
    with pytest.raises(SourceError, match="gone"):
        in_parallel(work, [0, 1], 2, stop)
    assert time.monotonic() - started < 5


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(gitlab, tmp_path):
    pointer = gitlab.pointer(sorted(FILES)[0]).replace(f"size {len(noise(0))}".encode(), b"size 99999999999999999")
    gitlab.faults["files"] = lambda server, http: http.send(200, pointer) is None
    with pytest.raises(StorageError, match="99,999,999,999,999,999 bytes are to be fetched, found room for"):
        fetch_corpus(tmp_path, gitlab.url)


def test_with_a_commit_and_all_objects_no_request_is_made(gitlab, tmp_path):
    first = fetch_corpus(tmp_path, gitlab.url)
    gitlab.requests.clear()
    assert fetch_corpus(tmp_path, gitlab.url) == first and not gitlab.requests
    assert fetch_corpus(tmp_path, "http://server.invalid") == first
    fetch_corpus(tmp_path, gitlab.url, revision="main")
    assert gitlab.kinds() == ["commits"]


def test_the_download_folder_takes_the_place_of_a_server(gitlab, tmp_path):
    first = fetch_corpus(tmp_path / "a", gitlab.url)
    files, sources = fetch_corpus(tmp_path / "b", f"file://{tmp_path}/a/.downloads")
    assert sources == first[1] and [f.sha256 for f in files] == [f.sha256 for f in first[0]]
    assert set(fetched(tmp_path / "b")) == RIGHT
    assert all(f.path.stat().st_nlink == 2 for f in files)
    again = fetch_corpus(tmp_path / "c", f"file://{tmp_path}/b/.downloads")  # what was replayed can be replayed
    assert again[1] == sources


def test_a_download_folder_on_another_disk_is_copied(gitlab, tmp_path):
    away = Path("/dev/shm")
    if not away.is_dir() or away.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system on this machine")
    fetch_corpus(tmp_path / "a", gitlab.url)
    store = away / f"tsuzuki-{os.getpid()}"
    try:
        fetch_corpus(store, f"file://{tmp_path}/a/.downloads")
        assert set(fetched(store)) == RIGHT and not parts(store)
    finally:
        subprocess.run(["rm", "-rf", str(store)], check=True)


def test_a_replayed_folder_is_believed_no_more_than_a_server(gitlab, tmp_path):
    folder = tmp_path / "a" / ".downloads"
    address = f"file://{folder}"
    with pytest.raises(SourceError, match=f"expected the listing of `{WIKI}`(.|\n)*recorded there: none"):
        fetch_corpus(tmp_path / "b", address)
    fetch_corpus(tmp_path / "a", gitlab.url)
    with pytest.raises(SourceError, match=f"cannot resolve it(.|\n)*{COMMIT}"):
        fetch_corpus(tmp_path / "b", address, revision="main")
    damaged = folder / sorted(RIGHT)[0]
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + b"?")
    with pytest.raises(SourceError, match=r"its sha256 is .* expected"):
        fetch_corpus(tmp_path / "b", address)
    assert damaged.name not in fetched(tmp_path / "b")
    damaged.unlink()
    with pytest.raises(SourceError, match="no such file, expected the object of"):
        fetch_corpus(tmp_path / "b", address)
    (listing,) = (folder / "listings").rglob("*.json")
    listing.write_text(listing.read_text(encoding="utf-8").replace(f"{WIKI}/train_0", f"{WIKI}/../train_0"))
    with pytest.raises(SourceError, match="expected names in"):
        fetch_corpus(tmp_path / "c", address)
    listing.write_text("{}")
    with pytest.raises(SourceError, match="expected a listing"):
        fetch_corpus(tmp_path / "c", address)

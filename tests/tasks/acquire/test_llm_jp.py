"""LLM-JP download against a GitLab of our own on loopback: what is fetched, from where, under which licence."""

from __future__ import annotations

import json
import logging

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from data_contracts.artifacts import RawCorpus
from data_contracts.errors import SourceError
from downloads import fetch_corpus, fetched, source
from gitlab_server import COMMIT, WIKI, GitLabServer, redirect, sha256_of, shard, status
from tasks.acquire.config import CorpusFolder, LlmJpSource
from tasks.acquire.corpus_licences import licence_of
from tasks.runtime import Runtime, identity
from tasks.stage import Request
from tasks.stages import ACQUIRE
from tasks.store import Store

FILES = {f"{WIKI}/train_0.jsonl.gz": shard(0, 1), f"{WIKI}/validation_0.jsonl.gz": shard(2)}
KAKEN = {"ja/kaken/train_0.jsonl.gz": shard(3), "ja/kaken/README.md": b"not read"}


@pytest.fixture
def gitlab():
    with GitLabServer(FILES | KAKEN) as server:
        yield server


def test_every_file_is_proved_by_its_pointer_and_read(gitlab, tmp_path):
    config = source(gitlab.url, folders=(CorpusFolder(path=WIKI), CorpusFolder(path="ja/kaken", licence="CC0-1.0")))
    built = Store(tmp_path).build(Request.of(ACQUIRE, config, {}), Runtime(store=tmp_path))
    corpus = RawCorpus.open(built.path)
    rows = [row for shard in corpus.shards() for row in pq.read_table(shard).to_pylist()]
    assert {row["id"]: row["source"] for row in rows} == {
        "0": f"datasets/llm-jp-corpus-v3/{WIKI}/train_0.jsonl.gz:1",
        "1": f"datasets/llm-jp-corpus-v3/{WIKI}/train_0.jsonl.gz:2",
        "2": f"datasets/llm-jp-corpus-v3/{WIKI}/validation_0.jsonl.gz:1",
        "3": "datasets/llm-jp-corpus-v3/ja/kaken/train_0.jsonl.gz:1",
    }
    assert len(corpus.shards("validation")) == 1
    assert [(s.name, s.revision, s.licence) for s in corpus.manifest.sources] == [
        (f"datasets/llm-jp-corpus-v3/{WIKI}", COMMIT, "CC-BY-SA-4.0"),
        ("datasets/llm-jp-corpus-v3/ja/kaken", COMMIT, "CC0-1.0"),
    ]
    recorded = json.loads((built.path / "sources.json").read_text(encoding="utf-8"))
    assert [s["licence"] for s in recorded["sources"]] == ["CC-BY-SA-4.0", "CC0-1.0"]
    assert [f["sha256"] for f in recorded["files"]] == [
        sha256_of(content) for name, content in (FILES | KAKEN).items() if name.endswith(".gz")
    ]


def test_a_branch_is_resolved_to_its_commit_and_a_commit_is_not_asked_for(gitlab, tmp_path):
    fetch_corpus(tmp_path / "pinned", gitlab.url)
    assert "commits" not in gitlab.kinds()
    _, sources = fetch_corpus(tmp_path / "branch", gitlab.url, revision="main")
    assert sources[0].revision == COMMIT and COMMIT in sources[0].url


def test_what_was_fetched_depends_neither_on_the_mirror_nor_on_the_order_of_arrival(gitlab, tmp_path):
    one = fetch_corpus(tmp_path / "a", gitlab.url)
    with GitLabServer(FILES) as mirror:
        other = fetch_corpus(tmp_path / "b", mirror.url + "/", transfer={"max_connections": 1})
    assert one[1] == other[1]
    assert [(f.name, f.sha256, f.split) for f in one[0]] == [(f.name, f.sha256, f.split) for f in other[0]]
    assert identity(source(gitlab.url)) == identity(LlmJpSource())


def test_a_tree_of_many_pages_is_read_to_its_end_even_where_a_proxy_drops_the_page_header(gitlab, tmp_path):
    blobs = [{"type": "blob", "path": f"{WIKI}/{n:03}.md"} for n in range(100)]
    last = [{"type": "blob", "path": name} for name in FILES]
    gitlab.faults["tree"] = lambda server, http: (
        http.send(200, json.dumps(blobs if "&page=1" in http.path else last).encode()) is None
    )
    files, _ = fetch_corpus(tmp_path, gitlab.url)
    assert [f.name for f in files] == sorted(FILES) and gitlab.kinds().count("tree") == 2


def test_equal_content_under_two_names_is_fetched_once(tmp_path):
    with GitLabServer({f"{WIKI}/train_{n}.jsonl.gz": shard(7) for n in range(3)}) as gitlab:
        files, _ = fetch_corpus(tmp_path, gitlab.url)
        assert len(files) == 3 and gitlab.kinds().count("object") == 1


def test_the_known_licence_of_a_folder_goes_to_the_folders_below_it_and_none_is_made_up():
    assert licence_of("ja/ja_wiki").licence == "CC-BY-SA-4.0"
    assert licence_of("ja/ja_cc/level2").licence == "Common Crawl terms of use"
    assert licence_of("ja/ja_wiki_of_another_kind").licence.startswith("unknown")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (["ja/../../etc"], "relative to the project"),
        (["/ja/ja_wiki"], "relative to the project"),
        (["ja\\ja_wiki"], "relative to the project"),
        (["ja/ja_wiki", "ja/ja_wiki"], "ja/ja_wiki is in ja/ja_wiki"),
        (["ja/ja_cc", "ja/ja_cc/level0"], "ja/ja_cc/level0 is in ja/ja_cc"),
        ([], "at least 1"),
    ],
)
def test_folders_that_are_none_or_overlap_are_refused(folders, message):
    with pytest.raises(ValidationError, match=message):
        LlmJpSource(folders=tuple(CorpusFolder.model_validate({"path": path}) for path in folders))


def test_a_secret_in_the_address_is_refused():
    with pytest.raises(ValidationError, match="base_url"):
        LlmJpSource(base_url="https://user:password@example.org")


def test_the_token_goes_to_the_project_and_to_no_other_host_not_even_after_a_redirect(gitlab, tmp_path):
    gitlab.object_url = gitlab.url  # an object that lies on the home server, which sends us on to another host
    gitlab.faults["object"] = lambda server, http: (
        http.headers["Host"].startswith("127")
        and redirect(lambda http: f"http://localhost:{gitlab.port}{http.path}?signature=hidden")(server, http)
    )
    fetch_corpus(tmp_path, gitlab.url, token="glpat-secret")
    home = [seen for seen in gitlab.requests if seen.headers["Host"].startswith("127")]
    away = [seen for seen in gitlab.requests if not seen.headers["Host"].startswith("127")]
    assert {seen.kind for seen in home} == {"tree", "files", "batch", "object"} and away
    assert all(seen.headers.get("PRIVATE-TOKEN") == "glpat-secret" for seen in home)
    assert all("Authorization" in seen.headers for seen in home if seen.kind == "batch")
    for seen in away:
        assert not {"PRIVATE-TOKEN", "Authorization", "X-Signature"} & set(seen.headers), seen


def test_neither_token_nor_signature_is_told_in_errors_or_logs(gitlab, tmp_path, caplog):
    logging.getLogger().setLevel(logging.DEBUG)
    gitlab.faults["batch"] = redirect(f"http://localhost:{gitlab.port}/gone?signature=hidden", 307)
    gitlab.faults["object"] = status(403)
    with pytest.raises(SourceError, match="HTTP 403") as error:
        fetch_corpus(tmp_path, gitlab.url, token="glpat-secret")
    told = str(error.value) + repr(error.value) + caplog.text
    assert "glpat-secret" not in told and "hidden" not in told and "GITLAB_TOKEN" in told


def test_a_token_does_not_travel_unencrypted(tmp_path):
    with pytest.raises(SourceError, match=r"unencrypted(.|\n)*GITLAB_TOKEN"):
        fetch_corpus(tmp_path, "http://mirror.invalid", token="glpat-secret")
    assert not fetched(tmp_path)


def test_progress_is_told_from_one_thread_and_ends_at_the_total(gitlab, tmp_path):
    gitlab.piece_seconds = 0.7
    told = []
    fetch_corpus(
        tmp_path, gitlab.url, progress=lambda done, total, unit, **figures: told.append((done, total, unit, figures))
    )
    size = sum(len(content) for content in FILES.values())
    assert told[0] == (2, 2, "pointers", {"folder": WIKI})
    assert told[-1][:3] == (size, size, "bytes")
    assert told[-1][3]["bytes_per_second"] > 0 and told[-1][3]["seconds_left"] == 0

"""The step that runs the real Uzushio, up to its command: a program of ours stands in for spark-submit."""

import os
import re
import signal
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import Corpus
from data_contracts.errors import ConfigError, ReconciliationError, UsageError, WorkerError, WorkerLost
from data_contracts.files import hash_file
from infra.settings import Settings
from tasks.curation.config import FilterConfig
from tasks.runtime import Runtime
from tasks.stage import Request
from tasks.stages import FILTER
from tasks.store import Store

STAND_IN = """#!{python}
import os, signal, sys, time
from pathlib import Path
from urllib.parse import quote
import pyarrow as pa, pyarrow.parquet as pq

words = sys.argv[1:]
options = dict(word[2:].split("=", 1) for word in words if word.startswith("--") and "=" in word)
Path("{record}").write_text("\\n".join(words))
print("INFO to be ignored", file=sys.stderr)
{before}
rows = {{}}
for file in sorted(Path(options["input"]).glob("*.parquet")):
    for row in pq.read_table(file).to_pylist():
        name, text = row["docId"], row["text"]
        paragraphs = text.split("\\n\\n")
        if len(paragraphs) >= 1000:
            continue
        if "short" in name:
            rows.setdefault("DocLength.Low(50)", []).append((name, text))
            continue
        for piece in [p for p in paragraphs if p == "広告"]:
            rows.setdefault("DuplicateParagraphs(2)", []).append((name, piece))
        kept = "\\n\\n".join(p for p in paragraphs if p != "広告")
        if kept:
            rows.setdefault("null", []).append((name, kept))
{after}
for label, found in rows.items():
    folder = Path(options["output"], "filter=" + quote(label))
    folder.mkdir(parents=True)
    columns = {{"docId": [n for n, _ in found], "text": [t for _, t in found]}}
    pq.write_table(pa.table(columns), folder / "part-00000.zstd.parquet")
Path(options["output"]).mkdir(exist_ok=True)
"""

DOCUMENTS = {
    "train-00000": [
        ("kept", "本文です。\r\n二行目"),
        ("edited", "始め\n\n広告\n\n終わり\n\n広告"),
        ("short-1", "短い"),
    ],
    "train-00001": [("emptied", "広告"), ("many", "\n\n".join(["文"] * 1000)), ("nothing", "")],
    "validation-00000": [("v", "検証の文書")],
}


@pytest.fixture
def spark(tmp_path):
    """`spark(before=..., after=...)`: a runtime with the stand-in, which runs these lines too, and a fitting config."""

    def made(before: str = "", after: str = "", cascade=(), **changes) -> tuple[Runtime, FilterConfig]:
        submit, jar, filters = tmp_path / "spark-submit", tmp_path / "uzushio.jar", tmp_path / "filters.conf"
        record = tmp_path / "words"
        submit.write_text(STAND_IN.format(python=sys.executable, record=record, before=before, after=after))
        submit.chmod(0o755)
        jar.write_bytes(b"a jar")
        filters.write_text("filters: [{class: DocLength, low: ${low}}]")
        step = {"filter": "uzushio_jar", "jar_sha256": hash_file(jar).sha256, "filters": str(filters)}
        step |= {"variables": {"low": "50"}, "files": {"kenlm": str(jar)}}
        config = FilterConfig.model_validate({"cascade": [step | changes, *cascade]})
        return Runtime(store=tmp_path / "store", spark_submit=submit, uzushio_jar=jar), config

    return made


def build(runtime: Runtime, config: FilterConfig, raw) -> Corpus:
    path, _ = Store(runtime.store).build(Request.of(FILTER, config, {"raw": raw}), runtime)
    return Corpus.open(path)


def test_what_it_writes_is_kept_and_all_else_is_in_the_ledger(seal_raw, spark, kept_ids, ledger, tmp_path) -> None:
    result = build(*spark(), seal_raw(DOCUMENTS))
    assert kept_ids(result) == ["kept", "edited", "v"]
    texts = [row["text"] for shard in result.shards() for row in pq.read_table(shard).to_pylist()]
    assert texts == ["本文です。\n二行目", "始め\n\n終わり", "検証の文書"]
    removed = {row["id"]: row for row in ledger(result)}
    assert set(removed) == {"short-1", "emptied", "many", "nothing"}
    assert {row["filter"] for row in removed.values()} == {"uzushio_jar"}
    assert removed["short-1"]["reason"].endswith("removed by DocLength.Low(50)")
    assert removed["emptied"]["reason"].endswith("removed by DuplicateParagraphs(2)")
    assert "leaves out such documents silently" in removed["many"]["reason"]
    assert "does not say why" in removed["nothing"]["reason"]
    assert removed["short-1"]["text"] == "短い"
    [edit] = pq.read_table(result.path / "edits.parquet").to_pylist()
    assert (edit["id"], edit["filter"], edit["num_places"], edit["removed"]) == (
        "edited",
        "uzushio_jar",
        2,
        "広告\n広告",
    )
    counts = result.manifest.summary.counts
    assert counts["num_documents_in"] == 7 == counts["num_documents_kept"] + counts["removed_by_uzushio_jar"]
    words = (tmp_path / "words").read_text().split("\n")
    assert words[:5] == [
        *("--class", "com.worksap.nlp.uzushio.main.DeduplicateParagraphs", "--master", "local[1]"),
        str(tmp_path / "uzushio.jar"),
    ]
    assert words[7:] == [
        "--execution=reprHashes,stats,filter-debug",
        f"--filters={tmp_path / 'filters.conf'}",
        "--text-only",
        f"-Pkenlm={tmp_path / 'uzushio.jar'}",
        "-Plow=50",
    ]


def test_further_steps_see_what_the_jar_kept(seal_raw, spark, kept_ids, ledger) -> None:
    result = build(*spark(cascade=[{"filter": "length", "min_characters": 9}]), seal_raw(DOCUMENTS))
    assert kept_ids(result) == ["kept"]
    assert {row["id"]: row["filter"] for row in ledger(result)}["v"] == "length"


def test_a_failing_program_tells_the_end_of_its_messages_and_its_command(seal_raw, spark) -> None:
    runtime, config = spark(before="print('java.lang.OutOfMemoryError', file=sys.stderr); sys.exit(3)")
    with pytest.raises(WorkerError, match=r"exit code 3\nINFO to be ignored\njava.lang.OutOfMemoryError") as error:
        build(runtime, config, seal_raw(DOCUMENTS))
    assert "--execution=" in error.value.hint


def test_a_killed_program_leaves_no_children_and_the_next_run_starts_anew(seal_raw, spark, tmp_path, kept_ids) -> None:
    child = tmp_path / "child"
    before = (
        "pid = os.fork()\n"
        "if not pid: time.sleep(600)\n"
        f"Path('{child}').write_text(str(pid)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    raw = seal_raw(DOCUMENTS)
    with pytest.raises(WorkerLost, match="signal SIGKILL"):
        build(*spark(before=before), raw)
    with pytest.raises(ProcessLookupError):
        for _ in range(1000):
            os.kill(int(child.read_text()), 0)
            _reap(int(child.read_text()))
    assert kept_ids(build(*spark(), raw)) == ["kept", "edited", "v"]


def _reap(pid: int) -> None:
    """A killed orphan stays a zombie until init takes it; that is dead enough."""
    status = Path(f"/proc/{pid}/stat")
    if status.exists() and status.read_text().split()[2] in "ZX":
        raise ProcessLookupError
    signal.sigtimedwait([], 0.01)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spark_submit": None}, "`TSUZUKI_SPARK_SUBMIT`: it is not set"),
        ({"uzushio_jar": None}, "`TSUZUKI_UZUSHIO_JAR`: it is not set"),
        ({"uzushio_jar": Path("/nowhere/uzushio.jar")}, "`TSUZUKI_UZUSHIO_JAR`: no such file `/nowhere/uzushio.jar`"),
    ],
)
def test_absent_programs_are_named_by_their_variable(seal_raw, spark, changes, told) -> None:
    runtime, config = spark()
    with pytest.raises(UsageError, match=re.escape(told)) as error:
        build(runtime.model_copy(update=changes), config, seal_raw(DOCUMENTS))
    assert "the step `uzushio`" in error.value.hint


def test_another_jar_than_the_config_names_is_refused(seal_raw, spark) -> None:
    runtime, config = spark(jar_sha256="0" * 64)
    with pytest.raises(UsageError, match=f"{hash_file(runtime.uzushio_jar).sha256}, expected {'0' * 64}"):
        build(runtime, config, seal_raw(DOCUMENTS))


def test_the_step_comes_first_and_once(seal_raw, spark) -> None:
    runtime, config = spark()
    twice = config.model_copy(update={"cascade": config.cascade * 2})
    with pytest.raises(ConfigError, match="as the first"):
        build(runtime, twice, seal_raw(DOCUMENTS))


def test_ids_that_were_not_handed_in_and_missing_output_fail_the_stage(seal_raw, spark) -> None:
    with pytest.raises(ReconciliationError, match="found 1 rows with ids that were not handed in"):
        build(*spark(after="rows['null'].append(('stranger', '文'))"), seal_raw(DOCUMENTS))
    with pytest.raises(WorkerError, match="found no parquet files"):
        build(*spark(after="rows = {}"), seal_raw(DOCUMENTS))


def test_settings_take_both_paths_from_the_environment(monkeypatch) -> None:
    monkeypatch.setenv("TSUZUKI_SPARK_SUBMIT", "/opt/spark/bin/spark-submit")
    monkeypatch.setenv("TSUZUKI_UZUSHIO_JAR", "/opt/uzushio.jar")
    settings = Settings()
    assert (settings.spark_submit, settings.uzushio_jar) == (
        Path("/opt/spark/bin/spark-submit"),
        Path("/opt/uzushio.jar"),
    )

"""The filter stage on the engine curator: the bytes of the local engine, errors as they were raised, nobody left."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

import psutil
import pyarrow.parquet as pq
import pytest

from data_contracts.artifacts import Corpus, RawCorpus
from data_contracts.errors import MissingPackage, TsuzukiError, UsageError, WorkerError
from flows.runs import Run
from tasks.acquire.config import LocalSource, SampleSource
from tasks.curation.config import FilterConfig
from tasks.curation.filters import default_cascade
from tasks.curation.filters.boilerplate import RemoveBoilerplateLines
from tasks.curation.filters.mask_personal_data import MaskPersonalData
from tasks.curation.filters.ng_words import NgWords
from tasks.curation.filters.word_count import WordCount
from tasks.runtime import Runtime
from tasks.stages import ACQUIRE, FILTER

ROOT = Path(__file__).parents[3]
CORPUS = ROOT.parent / "shared" / "corpus"
SET_PHRASE = "この行はどの文書にも立っているきまり文句です。"

Filtered = Callable[..., Corpus]


@pytest.fixture
def filtered(curator_python: Path, folders) -> Filtered:
    """`filtered(engine, config, raw)`: the sealed output on that engine, in a store of its own."""

    def built(engine: str, config: FilterConfig, raw: RawCorpus) -> Corpus:
        runtime = Runtime(store=folders(), workers=2, engine=engine, curator_python=curator_python)
        return Run(runtime)(FILTER, config, raw=raw)

    return built


def check_equal(found: Corpus, expected: Corpus) -> None:
    assert found.digest == expected.digest
    assert found.manifest.files == expected.manifest.files
    assert found.manifest.summary == expected.manifest.summary
    assert (found.manifest.engine, expected.manifest.engine) == ("curator", "local")


def test_every_kind_of_step_makes_the_bytes_of_the_local_engine(
    filtered, folders, seal_raw, hard_texts, tmp_path, monkeypatch
) -> None:
    sample = Run(Runtime(store=folders()))(ACQUIRE, SampleSource(num_documents=400))
    rows = {s.stem: pq.read_table(s, columns=["id", "text"]).to_pylist() for s in sample.shards()}
    documents = {shard: [(row["id"], f"{row['text']}\n{SET_PHRASE}") for row in of] for shard, of in rows.items()}
    mails = [
        (f"mail-{n}", f"{text}\n連絡先は taro{n}@example.org です。") for n, text in enumerate(hard_texts.values())
    ]
    raw = seal_raw(documents | {"train-00900": mails, "train-00901": [], "validation-00900": [("x", "桜の開花")]})
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("桜\n", encoding="utf-8")
    steps = (MaskPersonalData(), *default_cascade(), RemoveBoilerplateLines(), NgWords(words_file=Path("words.txt")))
    config = FilterConfig(cascade=steps)
    found = filtered("curator", config, raw)
    check_equal(found, filtered("local", config, raw))
    counts = found.manifest.summary.counts
    assert counts["num_documents_edited"] > 300 < counts["num_documents_kept"]
    assert counts["removed_by_ng_words"] and counts["removed_by_language"]


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no corpus at {CORPUS}")
def test_the_real_corpus_makes_the_bytes_of_the_local_engine(filtered, folders) -> None:
    raw = Run(Runtime(store=folders(), workers=2))(ACQUIRE, LocalSource(path=CORPUS))
    found = filtered("curator", FilterConfig(), raw)
    check_equal(found, filtered("local", FilterConfig(), raw))
    assert found.manifest.summary.counts["num_documents_in"] > 3_700


def test_an_error_in_rays_workers_arrives_as_it_was_raised(filtered, curator_python, seal_raw, prose) -> None:
    script = "import sys; from importlib.util import find_spec; sys.exit(find_spec('fugashi') is not None)"
    if subprocess.run([curator_python, "-c", script]).returncode:
        pytest.skip("Curator's interpreter has fugashi, whose absence is the error here")
    raw = seal_raw({"train-00000": [("a", prose(1, 500))]})
    with pytest.raises(MissingPackage, match="needs the package fugashi") as error:
        filtered("curator", FilterConfig(cascade=(WordCount(),)), raw)
    assert "tsuzuki[words]" in error.value.hint


@pytest.mark.parametrize(
    ("python", "kind", "message"),
    [
        (None, MissingPackage, "found no interpreter with NeMo Curator"),
        (Path("/nowhere/python"), UsageError, "`TSUZUKI_CURATOR_PYTHON`: found /nowhere/python"),
        (Path(sys.executable), MissingPackage, "found no nemo_curator, ray"),
    ],
    ids=["none named", "no program", "without Curator"],
)
def test_an_interpreter_that_cannot_do_it_is_named(
    python: Path | None, kind: type[TsuzukiError], message: str, folders, seal_raw
) -> None:
    runtime = Runtime(store=folders(), engine="curator", curator_python=python)
    with pytest.raises(kind, match=message) as error:
        Run(runtime)(FILTER, FilterConfig(), raw=seal_raw({"train-00000": [("a", "桜")]}))
    assert "make curator" in error.value.hint


def test_an_interpreter_that_would_write_other_bytes_is_refused(curator_python: Path) -> None:
    script = "from tasks.curation.engines.curator_worker import *; check_interpreter({'pyarrow': '1', 'Unicode': '1'})"
    done = subprocess.run([curator_python, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "expected pyarrow 1, Unicode 1 as in the main environment" in done.stderr


def test_a_ray_cluster_that_does_not_answer_is_named(curator_python: Path, folders, seal_raw) -> None:
    runtime = Runtime(store=folders(), engine="curator", curator_python=curator_python, ray_address="127.0.0.1:9")
    with pytest.raises(WorkerError, match="found no Ray cluster that takes us") as error:
        Run(runtime)(FILTER, FilterConfig(), raw=seal_raw({"train-00000": [("a", "桜")]}))
    assert "unset TSUZUKI_RAY_ADDRESS" in error.value.hint


RUN = """
import sys
from pathlib import Path
from data_contracts.artifacts import RawCorpus
from flows.runs import Run
from tasks.curation.config import FilterConfig
from tasks.runtime import Runtime
from tasks.stages import FILTER
store, raw, python = map(Path, sys.argv[1:])
runtime = Runtime(store=store, workers=2, engine="curator", curator_python=python)
Run(runtime)(FILTER, FilterConfig(), raw=RawCorpus.open(raw))
"""


@pytest.mark.parametrize("victims", ["our process", "our process and the worker"])
def test_nothing_of_ray_is_left_of_a_killed_run(victims, curator_python, seal_raw, prose, tmp_path) -> None:
    raw = seal_raw({f"train-{n:05d}": [("a", prose(n, 500))] for n in range(4)})
    ours = subprocess.Popen([sys.executable, "-c", RUN, tmp_path / "store", raw.path, curator_python], cwd=ROOT)
    started = _until_ray_works(ours)
    [worker] = [process for process in started if "tasks.worker" in process.cmdline()]
    [session] = [folder for folder in _sessions() if any(str(folder) in " ".join(p.cmdline()) for p in started)]
    ours.kill()
    if victims != "our process":
        worker.kill()
    ours.wait()
    _, alive = psutil.wait_procs(started, timeout=40)
    assert not alive
    assert not _named(str(session))
    assert not session.exists()


def _until_ray_works(ours: subprocess.Popen) -> list[psutil.Process]:
    """All processes below ours, as soon as one of Ray's workers is at our stages."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and ours.poll() is None:
        below = psutil.Process(ours.pid).children(recursive=True)
        names = " ".join(name for process in below for name in _words(process))
        if "TsuzukiCascade" in names:
            assert "gcs_server" in names and "raylet" in names
            return [process for process in below if process.is_running()]
        time.sleep(0.05)
    raise AssertionError(f"Ray did not come to our stages; exit code {ours.poll()}")


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:  # it ended meanwhile
        return []


def _named(text: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if any(text in word for word in _words(process))]


def _sessions() -> list[Path]:
    return list(Path(gettempdir()).glob("tsuzuki-ray-*"))

"""Sealed inputs made of a few documents, stages run through a real store, and Japanese text of any kind."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel

from data_contracts.artifacts import Artifact, Corpus, RawCorpus
from data_contracts.files import digest_of, hash_file
from data_contracts.manifest import MANIFEST_NAME, Manifest, Summary
from data_contracts.rows import DOCUMENTS, LEDGER
from emulated_gpu import EmulatedGpu
from tasks.curation.engines.cuda_device import cuda_device
from tasks.curation.engines.device import Device
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.store import Store

Documents = Mapping[str, Iterable[tuple[str, str]]]
"""Shard name (`train-00000`) to (id, text) of its documents."""

WORDS = [
    "日本",
    "東京",
    "大阪",
    "山",
    "川",
    "海",
    "電車",
    "駅",
    "学校",
    "先生",
    "生徒",
    "図書館",
    "歴史",
    "文化",
    "祭り",
    "料理",
    "味噌",
    "醤油",
    "桜",
    "紅葉",
    "寺",
    "神社",
    "城",
    "橋",
    "港",
    "コンピュータ",
    "ネットワーク",
    "プログラム",
    "データ",
    "メモリ",
    "ファイル",
    "カタカナ",
    "研究",
    "論文",
    "実験",
    "結果",
    "方法",
    "理論",
    "数学",
    "物理",
]
PARTICLES = ["は", "が", "を", "に", "で", "と", "から", "まで", "より", "も", "の", "へ"]
ENDINGS = [
    "である。",
    "です。",
    "ました。",
    "している。",
    "となった。",
    "と考えられる。",
    "ことができる。",
    "に位置する。",
]


def japanese(generator: random.Random, characters: int) -> str:
    """Sentences of random words, at least that many characters long; two of them are never near-duplicates."""
    text = ""
    while len(text) < characters:
        words = (generator.choice(WORDS) + generator.choice(PARTICLES) for _ in range(generator.randint(3, 7)))
        text += "".join(words) + str(generator.randint(0, 999)) + generator.choice(ENDINGS)
    return text


@pytest.fixture(scope="session")
def prose() -> Callable[[int, int], str]:
    """`prose(seed, characters)`: Japanese sentences."""
    return lambda seed, characters: japanese(random.Random(seed), characters)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A new folder at each call; session-scoped, so that hypothesis may ask for one per example."""
    root, numbers = tmp_path_factory.mktemp("curation"), count()
    return lambda: root / f"{next(numbers):05d}"


def _seal(folder: Path, kind: type[Artifact], documents: Documents) -> Artifact:
    (folder / "documents").mkdir(parents=True)
    for shard, rows in documents.items():
        row = {"url": "", "title": "", "meta": "{}"}
        table = [{"id": i, "text": t, "source": f"test/{shard}:{n}", **row} for n, (i, t) in enumerate(rows, 1)]
        pq.write_table(pa.Table.from_pylist(table, DOCUMENTS), folder / "documents" / f"{shard}.parquet")
    if kind is Corpus:
        pq.write_table(LEDGER.empty_table(), folder / "ledger.parquet")
    files = [hash_file(path, path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*.parquet"))]
    manifest = Manifest(
        kind=kind.kind,
        contract_version=kind.version,
        stage="test",
        revision=1,
        key=digest_of([str(folder)]),
        digest=kind.content_digest(files),
        inputs={},
        config={},
        summary=Summary(),
        sources=[],
        files=files,
        engine="local",
        libraries={},
        created_at=datetime.now(UTC),
        seconds=0.0,
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return kind.open(folder)


@pytest.fixture(scope="session")
def seal_raw(folders: Callable[[], Path]) -> Callable[[Documents], Artifact]:
    return lambda documents: _seal(folders(), RawCorpus, documents)


@pytest.fixture(scope="session")
def seal_corpus(folders: Callable[[], Path]) -> Callable[[Documents], Artifact]:
    return lambda documents: _seal(folders(), Corpus, documents)


@pytest.fixture(scope="session")
def run(folders: Callable[[], Path]) -> Callable[..., Any]:
    """`run(stage, config, workers=1, engine="local", **inputs)`: the sealed output, built in a store of its own."""

    def built(stage: Stage, config: BaseModel, workers: int = 1, engine: str = "local", **inputs: Artifact) -> Artifact:
        runtime = Runtime.model_validate({"store": folders(), "workers": workers, "engine": engine})
        path, _ = Store(runtime.store).build(Request.of(stage, config, inputs), runtime)
        return stage.output.open(path)

    return built


@pytest.fixture(scope="session")
def kept_ids() -> Callable[[Artifact], list[str]]:
    """Ids of all documents in an artifact, shard by shard."""

    def ids(corpus: Any, split: str | None = None) -> list[str]:
        return [i for shard in corpus.shards(split) for i in pq.read_table(shard, columns=["id"])["id"].to_pylist()]

    return ids


@pytest.fixture(scope="session")
def ledger() -> Callable[[Artifact], list[dict[str, Any]]]:
    """Rows of an artifact's removal ledger, whose schema is checked."""

    def rows(corpus: Any) -> list[dict[str, Any]]:
        table = pq.read_table(corpus.ledger)
        assert table.schema.equals(LEDGER)
        return table.to_pylist()

    return rows


@pytest.fixture(scope="session")
def hard_texts() -> dict[str, str]:
    """Texts that break naive code, by what is hard about them."""
    line = japanese(random.Random(5), 1000)
    return {
        "empty": "",
        "spaces": " \t\u3000\n\n ",
        "one character": "あ",
        "half width": "ﾊﾝｶｸｶﾀｶﾅﾃﾞｶﾞｷﾞｸﾞｹﾞｺﾞ" * 10,
        "full width": "ＡＢＣ１２３！？（全角）" * 10,
        "combining dakuten": "か\u3099き\u3099く\u3099は\u309aひ\u309a" * 20,
        "ideographic spaces": "東京\u3000大阪\u3000京都\u3000" * 20,
        "emoji": "😀👍🏽👨‍👩‍👧‍👦🇯🇵❤️" * 20,
        "compatibility": "㈱㍍½ﬁⅣ①℃…‥㌔" * 12,
        "beyond the BMP": "𠮷野家𩸽𠀋" * 30,
        "control characters": "一行目\r\n二行目\x00\x07\r三行目\u2028終\ufeff",
        "long run of spaces": "始" + " " * 100_000 + "終",
        "five megabytes in one line": line * (5_000_000 // len(line.encode()) + 1),
        "Turkish and Greek": "İSTANBUL ΟΔΟΣ ΣΑΣ ΌΣΟΣ" * 8,
        "Hangul jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af" * 20,
        "same line again": "同じ行が続く文書です。\n" * 50,
    }


@pytest.fixture(scope="session")
def check_golden() -> Callable[[Stage, Artifact], None]:
    """Fails when a stage's output for a fixed input differs from the recorded one of the same revision."""
    import json

    folder = next(p for p in Path(__file__).parents if p.name == "tests") / "golden"

    def check(stage: Stage, artifact: Artifact) -> None:
        golden = json.loads((folder / f"{stage.name}.json").read_text())
        found = {"digest": artifact.digest, "revision": stage.revision}
        if golden["revision"] == stage.revision:
            assert found == golden, f"output changed without a revision bump; bump it, then record {found}"
        assert found == golden, f"record the output of the new revision in tests/golden/{stage.name}.json: {found}"

    return check


@pytest.fixture(scope="session")
def curator_python() -> Path:
    """Curator's interpreter: the one that TSUZUKI_CURATOR_PYTHON names, or that of the benchmarks."""
    root = Path(__file__).parents[3]
    python = Path(os.environ.get("TSUZUKI_CURATOR_PYTHON", root / ".venv-bench" / "bin" / "python"))
    script = "import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))"
    if not python.exists() or subprocess.run([python, "-c", script, "nemo_curator", "ray", "numba"]).returncode:
        pytest.skip("no interpreter with NeMo Curator; `make curator` makes one in .venv-bench")
    return python


@pytest.fixture(scope="session", params=["cores", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A GPU, and cores that stand in for one."""
    if request.param == "gpu":
        pytest.importorskip("cudf", reason="the extra gpu is not installed")
        return cuda_device()
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA kernels with")
    return EmulatedGpu(tmp_path_factory.mktemp("kernels"))

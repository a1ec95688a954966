"""The corpus half on every engine: the same bytes, whatever ran the jobs and with how many workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from data_contracts.artifacts import Artifact
from flows.corpus_flow import corpus_story
from flows.recipes import PipelineConfig
from flows.runs import Run
from tasks.runtime import Runtime

ENGINES = {
    "one process": {"workers": 1},
    "two processes": {"workers": 2},
    "dask": {"workers": 2, "engine": "dask"},
}


def half(store: Path, **runtime: object) -> dict[str, Artifact]:
    """The artifacts of the corpus half for a small sample, by stage, sealed in a store of its own."""
    config = PipelineConfig.model_validate({"source": {"kind": "sample", "num_documents": 400}})
    return corpus_story(config, Run(Runtime(store=store, **runtime)))._asdict()


@pytest.fixture(scope="module")
def always_in_workers() -> Iterator[None]:
    """Even this little input goes to the workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.parallel.INLINE_BYTES", 0)
        patch.setattr("tasks.parallel.THREADED_BYTES", 0)
        yield


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict[str, Artifact]:
    return half(tmp_path_factory.mktemp("reference"), workers=1)


@pytest.mark.parametrize("engine", list(ENGINES)[1:])
def test_every_engine_makes_the_same_bytes(engine, reference, always_in_workers, tmp_path) -> None:
    made = half(tmp_path, **ENGINES[engine])
    assert {name: artifact.digest for name, artifact in made.items()} == {
        name: artifact.digest for name, artifact in reference.items()
    }
    assert made["filtered"].manifest.engine == ENGINES[engine].get("engine", "local")

"""Jobs run alike in this process, in worker processes and on a Dask cluster; a lost worker is a clear error."""

import os
from collections.abc import Iterator

import pytest

from data_contracts.errors import WorkerError, WorkerLost
from tasks.parallel import NUM_GROUPS, groups_of, kept_processes, map_jobs
from tasks.runtime import Runtime

MUCH = 1 << 30
"""More input than is worked on without worker processes."""


@pytest.fixture(scope="module", params=["local", "dask", "scheduler"])
def runtime(request, tmp_path_factory) -> Iterator[Runtime]:
    """The same two workers: processes, a Dask cluster of our own, a Dask cluster that was there before."""
    store = tmp_path_factory.mktemp("store")
    if request.param != "scheduler":
        yield Runtime(store=store, workers=2, engine=request.param)
        return
    from distributed import LocalCluster

    from tasks.dask_engine import client_of

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        yield Runtime(store=store, workers=2, engine="dask", scheduler_address=cluster.scheduler_address)
        client_of(cluster.scheduler_address, 2).close()


def test_every_job_gets_its_own_result(runtime: Runtime) -> None:
    jobs = list(range(-5, 20))
    assert dict(map_jobs(abs, jobs, runtime=runtime, num_bytes=MUCH)) == {n: abs(n) for n in jobs}


def test_many_jobs_go_to_an_engine_in_groups(runtime: Runtime) -> None:
    jobs = list(range(5_000))
    groups = groups_of(jobs)
    assert 512 < len(groups) <= NUM_GROUPS and [job for group in groups for job in group] == jobs
    assert groups_of(jobs[:NUM_GROUPS]) == [(job,) for job in jobs[:NUM_GROUPS]]
    assert dict(map_jobs(str, jobs, runtime=runtime, num_bytes=MUCH)) == {job: str(job) for job in jobs}


def test_error_of_a_job_arrives_as_it_was_raised(runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_jobs(int, ["1", "x"], runtime=runtime, num_bytes=MUCH))


def test_dead_worker_is_a_clear_error(runtime: Runtime) -> None:
    # A function of this module would not be found by a spawned process: pytest's importlib mode hides test modules.
    with pytest.raises(WorkerLost, match="a worker process died"):
        list(map_jobs(os._exit, [1, 2], runtime=runtime, num_bytes=MUCH))


def test_kept_processes_serve_many_calls_and_stay_whole_after_an_error(tmp_path) -> None:
    def processes(workers: int) -> set[int]:
        runtime = Runtime(store=tmp_path, workers=workers)
        return {int(pid) for _, pid in map_jobs(os.readlink, ["/proc/self"] * 20, runtime=runtime, num_bytes=MUCH)}

    with kept_processes(2, ready_for="decimal"):
        before = processes(2)
        with pytest.raises(ValueError, match="invalid literal"):
            list(map_jobs(int, ["x", *["1"] * 50], runtime=Runtime(store=tmp_path, workers=2), num_bytes=MUCH))
        assert len(before | processes(2)) <= 2
        assert not processes(3) & before  # another number has its own
    assert not processes(2) & before


def test_a_kept_process_that_dies_is_a_clear_error(tmp_path) -> None:
    with pytest.raises(WorkerLost, match="a worker process died"), kept_processes(2):
        list(map_jobs(os._exit, [1, 2], runtime=Runtime(store=tmp_path, workers=2), num_bytes=MUCH))


def test_scheduler_that_does_not_answer_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tasks.dask_engine.CONNECT_SECONDS", 1)
    nowhere = Runtime(store=tmp_path, engine="dask", scheduler_address="tcp://127.0.0.1:9")
    with pytest.raises(WorkerError, match="no Dask scheduler answered"):
        list(map_jobs(abs, [1], runtime=nowhere, num_bytes=0))

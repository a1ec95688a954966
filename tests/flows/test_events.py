"""Events of stages: what they say of an error, and that nobody waits for them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from served import free_port

from command_line import ROOT
from data_contracts.errors import DataError, WorkerLost

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["nobody listens", "nobody answers"])
def dead_server(request) -> Iterator[str]:
    """Address of a server that is down, or so stuck that it takes connections and never says a word."""
    if request.param == "nobody listens":
        yield f"http://127.0.0.1:{free_port()}/api"
        return
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        yield f"http://127.0.0.1:{deaf.getsockname()[1]}/api"


def test_a_thousand_events_that_cannot_be_sent_neither_fail_nor_delay(dead_server, tmp_path):
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, "-m", "telling_stages", str(tmp_path), "silence"],
        env={**os.environ, "PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": dead_server, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    together, slowest = map(float, done.stdout.split())
    # About 0.1 ms each on an idle machine; Prefect tries for eight seconds or more to reach a server.
    assert together < 5.0
    assert slowest < 3.0


def test_an_error_is_told_with_its_hint_and_without_secrets(monkeypatch):
    from flows.events import MAX_CHARACTERS, error_words

    monkeypatch.setenv("HF_TOKEN", "hf_ひみつ")
    monkeypatch.setenv("TSUZUKI_NOTIFY_URL", "https://hooks.example.com/abc")
    told = error_words(
        DataError("`hf_ひみつ`: of https://taro:pass@example.com/x", hint="https://hooks.example.com/abc")
    )
    assert told == {
        "error": "DataError",
        "message": "`***`: of https://***@example.com/x",
        "hint": "***",
        "retryable": False,
    }
    assert error_words(WorkerLost("gone"))["retryable"]
    long = error_words(ValueError("齢" * 10_000))
    assert long["message"] == "齢" * MAX_CHARACTERS + "…"
    assert (long["error"], long["hint"], long["retryable"]) == ("ValueError", "", False)

"""infra/automations.yaml on a real server: applied by name, and told by a webhook when a stage fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from self_hosted import SelfHosted, Webhook
from served import WAIT_SECONDS, wait_for

from command_line import ROOT
from data_contracts.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")
FILE = ROOT / "infra" / "automations.yaml"
NOTIFYING = ["tsuzuki-run-ended-notify", "tsuzuki-stage-failed-notify"]


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SelfHosted]:
    hosted = SelfHosted(tmp_path_factory.mktemp("hosted"))
    yield hosted
    hosted.stop()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    listening = Webhook()
    yield listening
    listening.stop()


def apply(server: SelfHosted, file: Path, notify_url: str = "") -> dict[str, list[str]]:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.service.automations import apply_automations, save_notify_block

    with temporary_settings({PREFECT_API_URL: server.url}):
        if notify_url:
            save_notify_block(notify_url)
        with get_client(sync_client=True) as client:
            return apply_automations(client, file)


def changed_file(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    values = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    change(values["automations"])
    file = folder / "automations.yaml"
    file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return file


def test_a_server_is_brought_in_line_with_the_file_and_left_alone_when_it_is(server, tmp_path):
    names = [entry["name"] for entry in yaml.safe_load(FILE.read_text(encoding="utf-8"))["automations"]]
    first = apply(server, FILE)
    assert sorted(first["left_out"]) == NOTIFYING
    assert first["changed"] == first["automations"] == [name for name in names if name not in NOTIFYING]
    there = {a["name"]: a for a in server.post("/automations/filter", {})}
    assert apply(server, FILE)["changed"] == []
    # With another trigger id, Prefect would forget for how long a corpus has been old.
    assert {a["name"]: a["trigger"]["id"] for a in server.post("/automations/filter", {})} == {
        name: automation["trigger"]["id"] for name, automation in there.items()
    }
    foreign = {"name": "tsuzuki-誰かの", "trigger": there[names[0]]["trigger"], "actions": [{"type": "do-nothing"}]}
    server.post("/automations/", foreign)
    server.ask("PATCH", f"/automations/{there[names[0]]['id']}", {"enabled": False})

    def change(entries: list[dict[str, Any]]) -> None:
        entries[0]["trigger"]["within"] = 77
        del entries[1]

    second = apply(server, changed_file(tmp_path, change))
    assert (second["changed"], second["deleted"]) == ([names[0]], [names[1]])
    there = {a["name"]: a for a in server.post("/automations/filter", {})}
    assert set(there) == {names[0], names[-1], foreign["name"]}
    assert (there[names[0]]["trigger"]["within"], there[names[0]]["enabled"]) == (77, False)


def test_stages_tell_their_events_and_a_failed_one_reaches_the_webhook(server, webhook, tmp_path):
    assert apply(server, FILE, webhook.url)["left_out"] == []
    done = subprocess.run(
        [sys.executable, "-m", "telling_stages", str(tmp_path), "trains", "goes-on", "fails", "fails-twice"],
        env={**server.environment, "GITLAB_TOKEN": "glpat-ひみつ"},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: len(server.events("tsuzuki.stage.failed")) == 3)
    built, resumed = server.events("tsuzuki.stage.sealed")
    assert built["payload"]["counts"] == {"num_documents": 7}
    assert built["resource"] == {
        "prefect.resource.id": "tsuzuki.stage.acquire",
        "prefect.resource.name": "acquire",
        "tsuzuki.stage": "acquire",
        "tsuzuki.title": "青空 × tiny",
        "tsuzuki.recipe": "demo",
        "tsuzuki.source": "local",
        "tsuzuki.data": "青空文庫",
        **{name: built["resource"][name] for name in ("tsuzuki.key", "tsuzuki.digest")},
    }
    roles = {resource["prefect.resource.role"]: resource["prefect.resource.name"] for resource in built["related"][:2]}
    assert (roles["flow-run"], set(roles)) == ("trains", {"flow-run", "task-run"})
    (going_on,) = server.events("tsuzuki.stage.resumed")
    assert going_on["resource"] == resumed["resource"]
    # 199 steps in an instant are one event.
    (progress,) = server.events("tsuzuki.training.progress")
    assert progress["payload"] == {"step": 1, "steps": 200, "loss": 3.5, "tokens_consumed": 512}
    failures = server.events("tsuzuki.stage.failed")
    failed, first, last = (event["payload"] for event in failures)
    assert (failed["error"], failed["hint"], failed["attempt"]) == ("DataError", "数え直す", 1)
    assert ((first["attempt"], last["attempt"]), last["retryable"]) == ((1, 2), True)

    # What is followed by another attempt is not told.
    assert [event["resource"]["tsuzuki.tried_again"] for event in failures] == ["false", "true", "false"]
    # Two failures and the two runs that ended with them; a busy server may tell one again.
    wait_for(lambda: len({post["text"] for post in webhook.posted}) >= 4)
    posted = sorted({post["text"] for post in webhook.posted})
    assert [text.splitlines()[0] for text in posted] == [
        "fails-twice: Failed",
        "fails-twice: acquire failed",
        "fails: Failed",
        "fails: acquire failed",
    ]
    assert "DataError: `年齢.jsonl`: *** of https://***@example.com 嘘嘘" in posted[3]
    assert "…\nhint: 数え直す\n青空 × tiny\nhttp" in posted[3]
    assert "/runs/flow-run/" in posted[3]
    assert "glpat" not in "".join(posted[1::2])
    block = server.post("/block_documents/filter", {"block_documents": {"name": {"any_": ["tsuzuki-notify"]}}})
    assert "himitsu-token" not in str(block)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda entries: entries[0]["trigger"].update(witin=5), "tsuzuki-silent-run-is-crashed: unknown witin"),
        (lambda entries: entries[0]["trigger"].update(within=5), "10 seconds"),
        (lambda entries: entries[0].update(tirgger={}), "unknown tirgger"),
        (lambda entries: entries[0].pop("actions"), "actions"),
        (lambda entries: entries.append(entries[0]), "tsuzuki-silent-run-is-crashed twice"),
    ],
)
def test_a_file_that_prefect_would_misread_is_refused(change, told, tmp_path):
    from flows.service.automations import read_automations

    file = changed_file(tmp_path, change)
    with pytest.raises(ConfigError, match=told):
        read_automations(file)


def test_every_start_but_the_last_is_followed_by_another_and_the_sample_never_ages():
    from flows.service.automations import read_automations

    automations = {automation.name: automation for automation in read_automations(FILE)[0]}
    assert len(automations) == 5
    continues: Any = automations["tsuzuki-crashed-run-continues"].trigger
    assert continues.match.root["prefect.run-count"] == [str(n) for n in range(1, 10)]
    silent: Any = automations["tsuzuki-silent-run-is-crashed"].trigger
    # A server may be away for a minute between two heartbeats.
    assert silent.within.total_seconds() >= 60 + 2 * 30

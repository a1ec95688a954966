"""The page `/reports/KEY/report.html` that `tsuzuki serve` puts beside the Prefect UI."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr

from data_contracts.artifacts import Corpus, Delivery
from data_contracts.manifest import Summary
from flows.service.app import REPORT_HEADERS, report_route
from stage_bodies import BodyConfig
from tasks.runtime import Runtime
from tasks.stage import Request, Stage
from tasks.store import Store
from tasks.workspace import Workspace

PAGE = "<!doctype html><p>続き &lt;script&gt;alert(1)&lt;/script&gt;</p>"


def write_page(config: BaseModel, workspace: Workspace) -> Summary:
    workspace.write_bytes("report.html", PAGE.encode())
    workspace.write_bytes("train.jsonl", "秘密の文書".encode())
    return Summary()


def sealed(store: Path, name: str = "deliver", output: type = Delivery) -> str:
    """Key of an artifact of that stage that holds a report."""
    stage = Stage(name, output, 1, f"{__name__}:write_page", "a page")
    return (
        Store(store).build(Request.of(stage, BodyConfig(witness=store / "witness"), {}), Runtime(store=store)).path.name
    )


@dataclass(frozen=True)
class Browser:
    """Asks an application that has that one page."""

    app: FastAPI

    def request(self, method: str, path: str, **words: Any) -> httpx.Response:
        async def answer() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, **words)

        return asyncio.run(answer())

    def get(self, path: str, **words: Any) -> httpx.Response:
        return self.request("GET", path, **words)


def client(store: Path, auth: str | None = None) -> Browser:
    app = FastAPI(openapi_url=None)
    app.router.routes.append(report_route(store, SecretStr(auth) if auth else None))
    return Browser(app)


def test_the_report_of_a_sealed_delivery_is_served_so_that_nothing_in_it_can_run(tmp_path):
    answer = client(tmp_path).get(f"/reports/{sealed(tmp_path)}/report.html")
    assert (answer.status_code, answer.text) == (200, PAGE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert {name: answer.headers[name] for name in REPORT_HEADERS} == REPORT_HEADERS
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/reports/{other}/report.html",
        "/reports/{key}/train.jsonl",
        "/reports/{key}/manifest.json",
        "/reports/{key}/",
        "/reports/{key}/../{key}/train.jsonl",
        "/reports/..%2F..%2Fdeliver%2F{key}/report.html",
        "/reports/%2e%2e/report.html",
        "/reports/{key}%00/report.html",
        "/reports/{key}%0A/report.html",
        "/reports/{upper}/report.html",
        "/reports/{short}/report.html",
    ],
)
def test_nothing_else_of_the_store_is_served(tmp_path, path):
    key = sealed(tmp_path)
    answer = client(tmp_path).get(path.format(key=key, other="0" * 64, upper=key.upper(), short=key[:63]))
    assert answer.status_code == 404
    assert "続き" not in answer.text and "秘密" not in answer.text


def test_an_artifact_that_is_no_delivery_or_not_sealed_or_damaged_has_no_report(tmp_path):
    (tmp_path / "deliver").mkdir()
    corpus = sealed(tmp_path, "split", Corpus)
    (tmp_path / "deliver" / corpus).symlink_to(tmp_path / "split" / corpus)
    unsealed = tmp_path / "deliver" / ("a" * 64)
    unsealed.mkdir()
    (unsealed / "report.html").write_text(PAGE, encoding="utf-8")
    damaged = sealed(tmp_path)
    (tmp_path / "deliver" / damaged / "report.html").write_text("short", encoding="utf-8")
    for key in (corpus, unsealed.name, damaged):
        assert client(tmp_path).get(f"/reports/{key}/report.html").status_code == 404


@pytest.mark.parametrize(
    "given", [None, ("user", "wrong"), ("other", "日本のpassword"), ("", ""), "Bearer 日本", "Basic !!", "Basic"]
)
def test_a_server_with_a_password_shows_no_report_without_it(tmp_path, given):
    path = f"/reports/{sealed(tmp_path)}/report.html"
    pupil = client(tmp_path, "user:日本のpassword")
    if isinstance(given, str):
        answer = pupil.get(path, headers={"Authorization": given.encode()})
    else:
        answer = pupil.get(path, auth=given)
    assert (answer.status_code, answer.headers["www-authenticate"][:6]) == (401, "Basic ")
    assert "続き" not in answer.text
    # Nor does it say which keys there are.
    assert pupil.get(f"/reports/{'0' * 64}/report.html").status_code == 401


def test_a_server_with_a_password_shows_the_report_to_who_knows_it(tmp_path):
    path = f"/reports/{sealed(tmp_path)}/report.html"
    assert client(tmp_path, "user:日本のpassword").get(path, auth=("user", "日本のpassword")).text == PAGE


def test_a_report_can_only_be_read(tmp_path):
    path = f"/reports/{sealed(tmp_path)}/report.html"
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert client(tmp_path).request(method, path).status_code == 405

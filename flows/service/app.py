"""Prefect's server with one page more: the report of a delivery, for a browser beside the UI."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from data_contracts.artifacts import Delivery
from data_contracts.errors import ArtifactError
from flows.service.ephemeral_server import REPORTS_PATH
from infra.settings import load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.routing import APIRoute

KEY = re.compile(r"[0-9a-f]{64}")
REPORT_HEADERS = {
    # A report quotes documents: whatever stands there, no script runs and nothing is fetched.
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app() -> FastAPI:
    """What uvicorn's `--factory` takes: Prefect's application and `/reports/KEY/report.html` of TSUZUKI_STORE."""
    from prefect.server.api.server import create_app as create_prefect_app

    app = create_prefect_app()
    settings = load_settings()
    # In front of the UI, which answers every path that nobody else has taken.
    app.router.routes.insert(0, report_route(settings.store.absolute(), settings.server_auth))
    return app


def report_of(store: Path, key: str) -> Path | None:
    """The report of a sealed delivery; none for anything else that a key may name."""
    if not KEY.fullmatch(key):
        return None
    try:
        artifact = Delivery.open(store / "deliver" / key)
    except ArtifactError:
        return None
    report = artifact.path / "report.html"
    return report if report.is_file() and not report.is_symlink() else None


def report_route(store: Path, auth: SecretStr | None) -> APIRoute:
    """GET of one report; where the server has a password, only with it (HTTP basic, as a browser asks for it)."""
    from fastapi import Request
    from fastapi.responses import FileResponse, PlainTextResponse, Response
    from fastapi.routing import APIRoute

    def report(key: str, request: Request) -> Response:
        if auth is not None and not _knows(request.headers.get("authorization", ""), auth):
            ask = {"WWW-Authenticate": 'Basic realm="Tsuzuki", charset="UTF-8"'}
            return PlainTextResponse("user and password of the server, please\n", 401, headers=ask)
        found = report_of(store, key)
        if found is None:
            return PlainTextResponse("no such report in this server's store\n", 404, headers=REPORT_HEADERS)
        return FileResponse(found, media_type="text/html; charset=utf-8", headers=REPORT_HEADERS)

    # Annotations are strings here, and FastAPI would look for these names among the module's.
    report.__annotations__ = {"key": str, "request": Request, "return": Response}
    return APIRoute(f"{REPORTS_PATH}/{{key}}/report.html", report, response_model=None, include_in_schema=False)


def _knows(header: str, auth: SecretStr) -> bool:
    """Whether an `Authorization` header says `user:password`; the time it takes tells nothing of how near it is."""
    kind, _, told = header.partition(" ")
    try:
        given = base64.b64decode(told.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return kind.lower() == "basic" and hmac.compare_digest(given, auth.get_secret_value().encode())

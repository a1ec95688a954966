"""Requests to servers that fail, stall, redirect and lie: bounded in size, time and tries; the token stays at home."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import httpx
from pydantic import SecretStr

from data_contracts.errors import SourceError, TransientSourceError
from tasks.acquire.config import TransferConfig
from tasks.acquire.patience import Busy, Patience, Stopped, retry_after_seconds

TOKEN_VARIABLE = "GITLAB_TOKEN"  # noqa: S105 - the name of a variable, not a token
MAX_BODY_BYTES = 64 << 20
MAX_REDIRECTS = 5
MIN_BYTES_PER_SECOND = 1024
PORTS = {"http": 80, "https": 443}
LOOPBACK = ("127.0.0.1", "::1", "localhost")
HARMLESS = ("accept", "content-type", "range")
"""Headers that may follow a redirect to another host."""


class Web:
    """HTTP with one server and the hosts it points to. `stop`, once set, ends whatever is under way."""

    def __init__(self, base_url: str, token: SecretStr | None, config: TransferConfig, stop: threading.Event) -> None:
        self.home = httpx.URL(base_url)
        self.token, self.config, self.stop = token, config, stop
        if token and self.home.scheme != "https" and self.home.host not in LOOPBACK:
            raise SourceError(
                f"`{base_url}`: a token would travel unencrypted, expected https",
                hint=f"use https for `source.base_url`, or unset {TOKEN_VARIABLE} if no token is needed",
            )
        for name in ("httpx", "httpcore"):  # They log whole URLs and headers, and a signed URL is a secret.
            logging.getLogger(name).setLevel(logging.WARNING)
        self.client = httpx.Client(
            timeout=httpx.Timeout(config.read_timeout_seconds, connect=config.connect_timeout_seconds, pool=None),
            limits=httpx.Limits(max_connections=config.max_connections),
            headers={"Accept-Encoding": "identity", "User-Agent": "tsuzuki"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.client.close()

    def json(self, url: str, method: str = "GET", **options: Any) -> tuple[Any, httpx.Headers]:
        """The parsed answer and its headers. Raises SourceError, TransientSourceError once all tries failed."""
        content, headers = self.body(url, method, **options)
        try:
            return json.loads(content), headers
        except (ValueError, RecursionError):
            raise SourceError(
                f"`{shown(url)}`: the server sent {content[:60]!r}, expected JSON", hint=self.login_hint()
            ) from None

    def body(self, url: str, method: str = "GET", **options: Any) -> tuple[bytes, httpx.Headers]:
        """The whole answer, of at most MAX_BODY_BYTES, and its headers. Raises as `json` does."""
        patience = Patience(self.config, self.stop)
        while True:
            try:
                with self.open(url, method, **options) as response:
                    content = bytearray()
                    for chunk in self.chunks(response):
                        content += chunk
                        if len(content) > MAX_BODY_BYTES:
                            raise SourceError(
                                f"`{shown(url)}`: the answer does not end, expected at most {MAX_BODY_BYTES:,} bytes",
                                hint="do not use this server; report it to whoever runs it",
                            )
                    return bytes(content), response.headers
            except TransientSourceError as error:
                patience.wait(error)

    @contextmanager
    def open(
        self,
        url: str,
        method: str = "GET",
        *,
        headers: Mapping[str, str] | None = None,
        also: tuple[int, ...] = (),
        **options: Any,
    ) -> Iterator[httpx.Response]:
        """One try: the answer of the server that redirects lead to, its body still to be read.

        headers: for the first host alone, but for HARMLESS ones. also: failure codes that the caller deals with.
        """
        first = target = _checked(url, self.home)
        for _ in range(MAX_REDIRECTS + 1):
            allowed = {k: v for k, v in (headers or {}).items() if _same(target, first) or k.lower() in HARMLESS}
            request = self.client.build_request(method, target, headers=allowed, **options)
            self._authorize(request)
            try:
                response = self.client.send(request, stream=True)
            except httpx.HTTPError as error:
                raise self._failed(target, error) from error
            try:
                if not response.has_redirect_location:
                    if response.status_code not in also:
                        self._check_status(response)
                    yield response
                    return
                target, options = _next(response, method), {k: v for k, v in options.items() if k != "params"}
            finally:
                response.close()
        raise SourceError(
            f"`{shown(url)}`: more than {MAX_REDIRECTS} redirects, the last to {shown(target)}", hint=self.login_hint()
        )

    def chunks(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it comes. Raises TransientSourceError when it breaks off or nearly stands still, and Stopped."""
        began, received = time.monotonic(), 0
        try:
            for chunk in response.iter_raw():
                if self.stop.is_set():
                    raise Stopped
                yield chunk
                received += len(chunk)
                seconds = time.monotonic() - began
                if seconds > self.config.read_timeout_seconds:
                    if received < MIN_BYTES_PER_SECOND * seconds:
                        raise TransientSourceError(
                            f"`{shown(response.url)}`: {received} bytes in {seconds:.0f} s, expected more",
                            hint="the server nearly stands still; run again later, what came is kept",
                        )
                    began, received = time.monotonic(), 0
        except httpx.HTTPError as error:
            raise self._failed(response.url, error) from error

    def login_hint(self) -> str:
        return (
            "a login page or an error page may stand in its place; open the address in a browser, "
            f"and if it asks to sign in, set {TOKEN_VARIABLE}"
        )

    def _authorize(self, request: httpx.Request) -> None:
        """Adds the token where the request goes to the home server, and nowhere else."""
        if not self.token or not _same(request.url, self.home):
            return
        token = self.token.get_secret_value()
        request.headers["PRIVATE-TOKEN"] = token
        if ".git/" in request.url.path:  # Git LFS knows no token header: https://docs.gitlab.com/topics/git/lfs/
            basic = base64.b64encode(f"oauth2:{token}".encode()).decode()
            request.headers.setdefault("Authorization", f"Basic {basic}")

    def _failed(self, url: httpx.URL, error: httpx.HTTPError) -> SourceError:
        what = f"`{shown(url)}`: {type(error).__name__}: {error}"
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return SourceError(what, hint="name the authority that signed it in SSL_CERT_FILE; it is always checked")
        return TransientSourceError(what, hint="check the network, then run again; what came is kept")

    def _check_status(self, response: httpx.Response) -> None:
        code, where = response.status_code, f"`{shown(response.url)}`: HTTP {response.status_code}"
        if code in (401, 403):
            advice = f"the one in {TOKEN_VARIABLE} was refused" if self.token else f"set {TOKEN_VARIABLE}"
            raise SourceError(where, hint=f"a token may be needed: {advice}")
        if code in (408, 425, 429) or code >= 500:
            error = Busy(where, hint="the server is busy or broken; run again later")
            error.retry_after_seconds = retry_after_seconds(response.headers.get("retry-after", ""))
            raise error
        if not response.is_success:
            raise SourceError(
                f"{where}, expected 200",
                hint="check `source.revision`, `.folders` and `.base_url`; "
                f"a private project answers 404 unless {TOKEN_VARIABLE} is set",
            )


def shown(url: httpx.URL | str) -> str:
    """A URL without what may be secret in it: user, password, query and fragment."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None, fragment=None))


def _next(response: httpx.Response, method: str) -> httpx.URL:
    if method != "GET" and response.status_code not in (307, 308):
        raise SourceError(
            f"`{shown(response.url)}`: HTTP {response.status_code} sends a {method} elsewhere, expected 307 or 308",
            hint="name the address that it leads to in `source.base_url`",
        )
    return _checked(response.headers["location"], response.url)


def _checked(url: str, before: httpx.URL) -> httpx.URL:
    """`url` as `before` leads to it. Raises SourceError unless it is http, or https where `before` was."""
    try:
        target = before.join(url)
        text = shown(target)
    except (httpx.InvalidURL, ValueError):
        raise SourceError(f"`{shown(before)}`: it leads to an address that is none, expected http or https") from None
    if target.scheme not in PORTS or not target.host or (before.scheme == "https" and target.scheme == "http"):
        raise SourceError(
            f"`{text}`: {shown(before)} leads there, expected {'http or ' * (before.scheme == 'http')}https",
            hint="do not use this server; report it to whoever runs it",
        )
    return target


def _same(one: httpx.URL, other: httpx.URL) -> bool:
    return _origin(one) == _origin(other)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or PORTS.get(url.scheme)

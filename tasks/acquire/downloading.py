"""Objects on their way to disk: continued where they broke off, hashed as they come, in place only whole and right."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from data_contracts.errors import SourceError, TransientSourceError
from data_contracts.files import READ_SIZE_BYTES, sync_path
from tasks.acquire.listing import LfsObject
from tasks.acquire.patience import Patience, Stopped
from tasks.acquire.web import Web, shown
from tasks.locks import try_lock
from tasks.runtime import Progress

LOCK_POLL_SECONDS = 0.2
RENEWING_BYTES = 8 << 20
"""A try that brings that much is headway; without it a big file on a poor line would use up its tries."""
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

Received = Callable[[int], None]
"""`received(size)`: how much of an object lies on disk now."""
Locate = Callable[[LfsObject], tuple[str, dict[str, str]]]


def is_there(path: Path, item: LfsObject) -> bool:
    """Whether an object lies at its final name, where nothing lies that was not whole and right."""
    return path.is_file() and path.stat().st_size == item.size


def fetch(web: Web, locate: Locate, item: LfsObject, path: Path, received: Received) -> None:
    """Downloads one object to `path`.

    What broke off is continued from `<path>.part`; content that is wrong is fetched once more, from its start. Raises
    SourceError, TransientSourceError, and Stopped.
    """
    with partial_of(item, path, web.stop, received) as partial:
        if partial is None:
            return
        for _ in range(2):
            _receive(web, locate, partial)
            if partial.is_right():
                partial.put_in_place(path)
                return
            wrong = partial.described()
            partial.restart()
    raise SourceError(
        f"`{item.name}`: received {wrong}, twice, expected {item.size:,} bytes with sha256 {item.sha256[:12]}…",
        hint="nothing of it was kept; run again, and if it comes back delete `.downloads/listings` in the store and "
        "name another `source.base_url`",
    )


class Partial:
    """The part of an object that lies on disk, held by this process alone, and its running sha256."""

    def __init__(self, item: LfsObject, path: Path, file: BinaryIO, stop: threading.Event, received: Received) -> None:
        self.item, self.path, self.file, self.received = item, path, file, received
        self.sha256: Any = hashlib.sha256()
        self.size = 0
        file.seek(0)
        while chunk := file.read(READ_SIZE_BYTES):
            if stop.is_set():
                raise Stopped
            self.sha256.update(chunk)
            self.size += len(chunk)
        if self.size > item.size:
            self.restart()
        received(self.size)

    def append(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.sha256.update(chunk)
        self.size += len(chunk)
        self.received(min(self.size, self.item.size))

    def restart(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.sha256, self.size = hashlib.sha256(), 0
        self.received(0)

    def is_right(self) -> bool:
        return self.size == self.item.size and self.sha256.hexdigest() == self.item.sha256

    def described(self) -> str:
        if self.size > self.item.size:
            return "more bytes than that"
        return f"{self.size:,} bytes with sha256 {self.sha256.hexdigest()[:12]}…"

    def put_in_place(self, path: Path) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.path.rename(path)
        sync_path(path.parent)


@contextmanager
def partial_of(item: LfsObject, path: Path, stop: threading.Event, received: Received) -> Iterator[Partial | None]:
    """The object's `.part`, locked against other processes and threads; None when another one finished it meanwhile."""
    part = path.with_name(f"{path.name}.part")
    while True:
        with open(part, "a+b") as file:
            while not try_lock(file):
                if stop.wait(LOCK_POLL_SECONDS):
                    raise Stopped
            if not _still_at(file, part):  # who held it has put it in place or removed it
                continue
            held = None if is_there(path, item) else Partial(item, part, file, stop, received)
            if held is None:
                received(item.size)
            try:
                yield held
            finally:
                if not (held and held.size) and _still_at(file, part):
                    part.unlink()
            return


def _still_at(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _receive(web: Web, locate: Locate, partial: Partial) -> None:
    """Brings the partial to its announced size, in as many tries as it takes."""
    patience = Patience(web.config, web.stop)
    while partial.size < partial.item.size:
        url, headers = locate(partial.item)  # each time anew: such an address may be good for some minutes only
        before = partial.size
        try:
            _continue(web, url, headers, partial)
        except TransientSourceError as error:
            if partial.size - before >= RENEWING_BYTES:
                patience.renew()
            patience.wait(error)


def _continue(web: Web, url: str, headers: dict[str, str], partial: Partial) -> None:
    if partial.size:
        headers = {**headers, "Range": f"bytes={partial.size}-"}
    with web.open(url, headers=headers, also=(httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE,)) as response:
        _check_answer(web, response, partial)
        for chunk in web.chunks(response):
            partial.append(chunk)
            if partial.size > partial.item.size:
                return  # wrong, however much more there is
    if partial.size < partial.item.size:
        raise TransientSourceError(
            f"`{partial.item.name}`: the connection ended after {partial.size:,} of {partial.item.size:,} bytes",
            hint="run again; what came is kept",
        )


def _check_answer(web: Web, response: httpx.Response, partial: Partial) -> None:
    """Makes the partial fit what the answer is going to send. Raises where it cannot be the object."""
    item, code, headers = partial.item, response.status_code, response.headers
    where = f"`{item.name}`: {shown(response.url)}"
    if headers.get("content-type", "").startswith("text/html"):
        raise SourceError(f"{where} sent an HTML page, expected the object", hint=web.login_hint())
    if code == httpx.codes.OK:
        if partial.size:
            partial.restart()  # the server ignored the range
        length = headers.get("content-length", str(item.size))
        if length != str(item.size):
            raise TransientSourceError(
                f"{where} announced {length[:20]} bytes, expected {item.size:,}", hint=web.login_hint()
            )
        return
    sent = RANGE.fullmatch(headers.get("content-range", "")) if code == httpx.codes.PARTIAL_CONTENT else None
    if not sent or int(sent[1]) != partial.size or sent[2] not in (str(item.size), "*"):
        asked = f"{partial.size}-/{item.size}"
        partial.restart()  # and the next try asks for all of it
        raise TransientSourceError(
            f"{where} answered HTTP {code} {headers.get('content-range', '')[:60]!r}, expected bytes {asked}",
            hint="the server does not know ranges; run again, or name another `source.base_url`",
        )


class Meter:
    """Bytes of all objects on disk, set by many threads and shown by one."""

    def __init__(self, objects: dict[str, LfsObject], folder: Path) -> None:
        self.total = sum(item.size for item in objects.values())
        self.sizes = {sha256: min(item.size, _size_on_disk(folder / sha256)) for sha256, item in objects.items()}
        self.at_start, self.started = sum(self.sizes.values()), time.monotonic()

    @property
    def missing(self) -> int:
        return self.total - sum(self.sizes.values())

    def show(self, progress: Progress) -> None:
        speed = max(0.0, self.total - self.missing - self.at_start) / max(1e-3, time.monotonic() - self.started)
        figures = {"bytes_per_second": speed, "seconds_left": self.missing / speed} if speed else {}
        progress(self.total - self.missing, self.total, unit="bytes", **figures)


def _size_on_disk(path: Path) -> int:
    return next((p.stat().st_size for p in (path, path.with_name(f"{path.name}.part")) if p.is_file()), 0)

"""The download folder of another store in place of a server: its listings and objects, checked all the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlparse

from data_contracts.errors import SourceError
from data_contracts.files import READ_SIZE_BYTES, hash_file, sync_path
from tasks.acquire.config import LlmJpSource
from tasks.acquire.downloading import Received, partial_of
from tasks.acquire.listing import FOLDER, LfsObject, Listing, path_of, read_listing
from tasks.acquire.patience import Stopped


class Replay:
    def __init__(self, config: LlmJpSource, stop: threading.Event) -> None:
        self.config, self.stop = config, stop
        self.root = Path(unquote(urlparse(config.base_url).path))

    def commit(self) -> str:
        raise SourceError(
            f"`{self.config.revision}`: a folder cannot resolve it, expected a commit of 40 hex digits",
            hint=f"set `source.revision` to one of: {', '.join(self._commits()) or 'none recorded there'}",
        )

    def _commits(self) -> list[str]:
        return sorted({path.parent.name for path in (self.root / FOLDER).glob("*/*/*.json")})

    def listing(self, commit: str, folder: str, tick: Callable[[int, int], None]) -> Listing:
        path = path_of(self.root, self.config.project, commit, folder)
        if not path.is_file():
            raise SourceError(
                f"`{path}`: no such file, expected the listing of `{folder}`",
                hint="`source.base_url` must name the `.downloads` folder of a store that fetched that folder; "
                f"commits recorded there: {', '.join(self._commits()) or 'none'}",
            )
        return read_listing(path)

    def fetch(self, item: LfsObject, path: Path, received: Received) -> None:
        """Brings one object to `path`: linked where both lie on one disk, else copied, its sha256 checked before."""
        source = self.root / item.sha256
        if not source.is_file():
            raise SourceError(
                f"`{source}`: no such file, expected the object of `{item.name}`",
                hint="copy it there, or name a server in `source.base_url`",
            )
        try:
            _check(source, item, hash_file(source).sha256)
            link = path.with_name(f"{path.name}.{os.getpid()}.link")
            os.link(source, link)
            link.replace(path)
            link.unlink(missing_ok=True)  # a rename between two names of one file does nothing
            sync_path(path.parent)
        except OSError:  # another disk, or one without links
            self._copy(source, item, path, received)
        received(item.size)

    def _copy(self, source: Path, item: LfsObject, path: Path, received: Received) -> None:
        with partial_of(item, path, self.stop, received) as partial, open(source, "rb") as file:
            if partial is None:
                return
            partial.restart()
            while chunk := file.read(READ_SIZE_BYTES):
                if self.stop.is_set():
                    raise Stopped
                partial.append(chunk)
            _check(source, item, partial.sha256.hexdigest())
            partial.put_in_place(path)


def _check(source: Path, item: LfsObject, sha256: str) -> None:
    if sha256 != item.sha256:
        raise SourceError(
            f"`{source}`: its sha256 is {sha256[:12]}…, expected {item.sha256[:12]}… of `{item.name}`",
            hint="that file is damaged; fetch it again from a server",
        )

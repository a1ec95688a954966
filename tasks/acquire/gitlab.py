"""A GitLab project with Git LFS: its commits, its tree, the pointers in it, and where their objects lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from data_contracts.errors import SourceError
from tasks.acquire.config import LlmJpSource
from tasks.acquire.listing import LfsObject, Listing, check_names, readable
from tasks.acquire.patience import in_parallel
from tasks.acquire.web import Web

NAMES_PER_PAGE = 100
MAX_PAGES = 200
"""20,000 names; a folder of the corpus holds some hundreds."""
POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n?")
LFS_JSON = "application/vnd.git-lfs+json"
OURS = {"host", "content-length", "transfer-encoding", "connection", "range", "accept-encoding"}
"""Headers that no answer of a server may set in our next request."""


class GitLab:
    def __init__(self, web: Web, config: LlmJpSource) -> None:
        self.web, self.config = web, config
        self.base = config.base_url.rstrip("/")
        self.api = f"{self.base}/api/v4/projects/{quote(config.project, safe='')}/repository"

    def commit(self) -> str:
        """The commit that the configured revision stands for now."""
        revision = self.config.revision
        answer, _ = self.web.json(f"{self.api}/commits/{quote(revision, safe='')}")
        commit = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise SourceError(f"`{revision}`: the server resolved it to {str(commit)[:60]!r}, expected a commit id")
        return commit

    def listing(self, commit: str, folder: str, tick: Callable[[int, int], None]) -> Listing:
        """The readable files below a folder, each with the sha256 and size of its pointer.

        tick: called with the number of pointers read and their total. Raises SourceError.
        """
        names = [name for page in self._pages(commit, folder) for name in page]
        check_names(names, folder)
        found = readable(names, folder, commit)
        files = in_parallel(
            lambda name: self._pointer(commit, name),
            found,
            self.config.transfer.max_connections,
            self.web.stop,
            lambda num_done: tick(num_done, len(found)),
        )
        return Listing(project=self.config.project, commit=commit, folder=folder, files=tuple(files))

    def _pages(self, commit: str, folder: str) -> Iterator[list[str]]:
        """Names of the files, page by page. Raises SourceError where the tree is none or does not end."""
        page, query = 1, {"path": folder, "ref": commit, "recursive": "true", "per_page": NAMES_PER_PAGE}
        while page <= MAX_PAGES:
            entries, headers = self.web.json(f"{self.api}/tree", params={**query, "page": page})
            yield _names(entries, folder)
            # Without that header (a proxy may drop it) a full page may not be the last one.
            full = str(page + 1) if len(entries) >= NAMES_PER_PAGE else ""
            following = headers.get("x-next-page", full)
            if not following:
                return
            if following != str(page + 1):
                raise SourceError(
                    f"`{folder}`: page {following[:20]!r} of its tree follows page {page}, expected {page + 1}",
                    hint="check `source.base_url`; it must be a GitLab server or a mirror of one",
                )
            page += 1
        raise SourceError(
            f"`{folder}`: its tree does not end after {MAX_PAGES} pages, expected fewer than that",
            hint="name folders further down in `source.folders`, or do not use this server",
        )

    def _pointer(self, commit: str, name: str) -> LfsObject:
        url = f"{self.api}/files/{quote(name, safe='')}/raw"
        content, _ = self.web.body(url, params={"ref": commit, "lfs": "false"})
        match = POINTER.fullmatch(content)
        if not match:
            raise SourceError(
                f"`{name}`: the server sent {content[:60]!r}, expected a Git LFS pointer", hint=self.web.login_hint()
            )
        return LfsObject(name=name, sha256=match[1].decode(), size=int(match[2]))

    def locate(self, item: LfsObject) -> tuple[str, dict[str, str]]:
        """Where the LFS batch API says the object is, and the headers to ask for it with. Raises SourceError."""
        url = f"{self.base}/{self.config.project}.git/info/lfs/objects/batch"
        body = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": item.sha256, "size": item.size}]}
        answer, _ = self.web.json(url, "POST", json=body, headers={"Accept": LFS_JSON, "Content-Type": LFS_JSON})
        try:
            (found,) = answer["objects"]
            if "error" in found:
                raise _refused(item, f"says {found['error']['message']!r}"[:300])
            if found["oid"] != item.sha256 or found.get("size", item.size) != item.size:
                raise _refused(item, "speaks of another object")
            action = found["actions"]["download"]
            headers = {str(k): str(v) for k, v in action.get("header", {}).items() if k.lower() not in OURS}
            "".join([*headers, *headers.values()]).encode("ascii")
            return str(action["href"]), headers
        except (LookupError, TypeError, ValueError, AttributeError):
            # What it did say is not shown: it may hold headers that are secret.
            raise _refused(item, "does not say where the object lies") from None


def _refused(item: LfsObject, reason: str) -> SourceError:
    return SourceError(
        f"`{item.name}`: the LFS server {reason}, expected the address of {item.sha256[:12]}…",
        hint="the object may be missing there; name another `source.base_url`, or report it",
    )


def _names(entries: Any, folder: str) -> list[str]:
    try:
        return [str(entry["path"]) for entry in entries if entry["type"] == "blob"]
    except (LookupError, TypeError):
        raise SourceError(
            f"`{folder}`: the server sent {str(entries)[:60]!r}, expected a list of files",
            hint="check `source.base_url`; it must be a GitLab server or a mirror of one",
        ) from None

"""The `llm_jp` source: files of a GitLab project by Git LFS, each proved by the sha256 its pointer names."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
from pydantic import SecretStr

from data_contracts.errors import SourceError, TransientSourceError
from data_contracts.manifest import DataSource
from tasks.acquire.config import LLM_JP_URL, LlmJpSource
from tasks.acquire.corpus_licences import licence_of
from tasks.acquire.reading import SUFFIXES, SourceFile, split_of
from tasks.workspace import Workspace

TOKEN_VARIABLE = "GITLAB_TOKEN"  # noqa: S105 - the name of a variable, not a token
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
PAGE_SIZE = 100
POINTER = re.compile(rb"version https://git-lfs.github.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")
PROGRESS_BYTES = 16 << 20


class LfsObject(NamedTuple):
    """One file of the project, as its LFS pointer announces it."""

    name: str
    sha256: str
    size: int


def download(config: LlmJpSource, workspace: Workspace) -> tuple[list[SourceFile], list[DataSource]]:
    """Every readable file below the `folders` at the resolved commit, whole and with the sha256 of its LFS pointer.

    Finished files lie under `<store>/.downloads/<sha256>` and are not fetched again; a half-fetched one is continued.
    Raises SourceError, and TransientSourceError for what may pass when tried again.
    """
    with httpx.Client(timeout=TIMEOUT, auth=_TokenAuth(config.base_url, workspace.runtime.gitlab_token)) as client:
        commit = _commit(client, config)
        names = [name for folder in config.folders for name in _tree(client, config, commit, folder.path)]
        objects = [_pointer(client, config, commit, name) for name in names]
        folder = workspace.runtime.store / ".downloads"
        folder.mkdir(parents=True, exist_ok=True)
        total = sum(o.size for o in objects)
        done = 0
        for item in objects:
            _fetch(client, config, item, folder / item.sha256, workspace, done, total)
            done += item.size
    files = [SourceFile(path=folder / o.sha256, name=o.name, split=split_of(o.name)) for o in objects]
    sources = [
        DataSource(
            name=f"{config.project}/{folder.path}",
            url=f"{LLM_JP_URL}/{config.project}/-/tree/{commit}/{folder.path}",
            revision=commit,
            licence=folder.licence or licence_of(folder.path).licence,
            attribution=folder.attribution or licence_of(folder.path).attribution,
        )
        for folder in config.folders
    ]
    return [f.model_copy(update={"sha256": o.sha256}) for f, o in zip(files, objects, strict=True)], sources


class _TokenAuth(httpx.Auth):
    """Adds the GitLab token to requests for the GitLab host, and for no other host."""

    def __init__(self, base_url: str, token: SecretStr | None) -> None:
        self.origin = httpx.URL(base_url)
        self.token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        same = (request.url.scheme, request.url.host, request.url.port)
        if self.token and same == (self.origin.scheme, self.origin.host, self.origin.port):
            request.headers["PRIVATE-TOKEN"] = self.token.get_secret_value()
        yield request


def _api(config: LlmJpSource) -> str:
    return f"{config.base_url}/api/v4/projects/{quote(config.project, safe='')}/repository"


def _commit(client: httpx.Client, config: LlmJpSource) -> str:
    commit = _json(client, f"{_api(config)}/commits/{quote(config.revision, safe='')}").get("id", "")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise SourceError(f"`{config.revision}`: the server resolved it to {commit!r}, expected a commit id")
    return commit


def _tree(client: httpx.Client, config: LlmJpSource, commit: str, folder: str) -> list[str]:
    """Names of the readable files below a folder, from the paged repository tree. Raises SourceError."""
    names: list[str] = []
    for page in _pages(client, config, commit, folder):
        names += [entry["path"] for entry in page if entry.get("type") == "blob" and entry["path"].endswith(SUFFIXES)]
    for name in names:
        if not name.startswith(folder + "/") or ".." in name.split("/"):
            raise SourceError(
                f"`{name}`: the server lists a file outside of `{folder}`",
                hint="do not use this mirror; report it to whoever runs it",
            )
    if not names:
        raise SourceError(f"`{folder}`: no {'/'.join(SUFFIXES)} file at {commit}", hint="check `source.folders`")
    return sorted(names)


def _pages(client: httpx.Client, config: LlmJpSource, commit: str, folder: str) -> Iterator[list[dict[str, Any]]]:
    page = "1"
    while page:
        query = {"path": folder, "ref": commit, "recursive": "true", "per_page": PAGE_SIZE, "page": page}
        response = _get(client, f"{_api(config)}/tree", params=query)
        yield response.json()
        page = response.headers.get("x-next-page", "")


def _pointer(client: httpx.Client, config: LlmJpSource, commit: str, name: str) -> LfsObject:
    response = _get(client, f"{_api(config)}/files/{quote(name, safe='')}/raw", params={"ref": commit, "lfs": "false"})
    match = POINTER.match(response.content)
    if not match:
        raise SourceError(
            f"`{name}`: the server sent {response.content[:60]!r}, expected a Git LFS pointer",
            hint="a login page or an error page may stand in its place; open the project in a browser",
        )
    return LfsObject(name, match[1].decode(), int(match[2]))


def _fetch(
    client: httpx.Client, config: LlmJpSource, item: LfsObject, path: Path, workspace: Workspace, done: int, total: int
) -> None:
    """Downloads one object to `path`; it appears there only when its size and sha256 are right."""
    if path.is_file() and path.stat().st_size == item.size:
        return
    partial = path.with_suffix(".part")
    sha256, size = _hash_of_partial(partial)
    url, headers = _action(client, config, item)
    if size:
        headers["Range"] = f"bytes={size}-"
    with client.stream("GET", url, headers=headers) as response:
        _check_status(response, url)
        if response.status_code == httpx.codes.OK and size:
            sha256, size = hashlib.sha256(), 0  # the server ignored the range and starts over
        with open(partial, "ab" if size else "wb") as file:
            shown = size
            for chunk in _chunks(response, url):
                file.write(chunk)
                sha256.update(chunk)
                size += len(chunk)
                if size > item.size:
                    break
                if size - shown >= PROGRESS_BYTES:
                    workspace.progress(done + size, total, unit="bytes", file=item.name)
                    shown = size
            file.flush()
            os.fsync(file.fileno())
    _accept(item, partial, path, size, sha256.hexdigest())


def _accept(item: LfsObject, partial: Path, path: Path, size: int, sha256: str) -> None:
    if size < item.size:
        raise TransientSourceError(
            f"`{item.name}`: the connection ended after {size} of {item.size} bytes", hint="run again; it is continued"
        )
    if size > item.size or sha256 != item.sha256:
        partial.unlink()
        raise TransientSourceError(
            f"`{item.name}`: received {size} bytes with sha256 {sha256[:12]}…, "
            f"expected {item.size} bytes with {item.sha256[:12]}…",
            hint="nothing of it was kept; run again, and if it comes back name another `source.base_url`",
        )
    partial.rename(path)


def _hash_of_partial(partial: Path) -> tuple[Any, int]:
    sha256, size = hashlib.sha256(), 0
    if partial.is_file():
        with open(partial, "rb") as file:
            while chunk := file.read(1 << 20):
                sha256.update(chunk)
                size += len(chunk)
    return sha256, size


def _action(client: httpx.Client, config: LlmJpSource, item: LfsObject) -> tuple[str, dict[str, str]]:
    """Where the LFS batch API says the object is, and the headers to ask for it with."""
    url = f"{config.base_url}/{config.project}.git/info/lfs/objects/batch"
    body = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": item.sha256, "size": item.size}]}
    kind = "application/vnd.git-lfs+json"
    response = _get(client, url, method="POST", json=body, headers={"Accept": kind, "Content-Type": kind})
    answer = response.json()["objects"][0]
    if "actions" not in answer:
        raise SourceError(
            f"`{item.name}`: the LFS server answered {answer.get('error', answer)}", hint="check the mirror"
        )
    action = answer["actions"]["download"]
    return action["href"], dict(action.get("header", {}))


def _get(client: httpx.Client, url: str, method: str = "GET", **options: Any) -> httpx.Response:
    try:
        response = client.request(method, url, **options)
    except httpx.HTTPError as error:
        raise _transient(url, error) from error
    _check_status(response, url)
    return response


def _json(client: httpx.Client, url: str) -> Any:
    response = _get(client, url)
    try:
        return response.json()
    except ValueError:
        raise SourceError(
            f"`{url}`: the server sent {response.content[:60]!r}, expected JSON",
            hint="a login page may stand in its place; open the project in a browser",
        ) from None


def _chunks(response: httpx.Response, url: str) -> Iterator[bytes]:
    try:
        yield from response.iter_raw()
    except httpx.HTTPError as error:
        raise _transient(url, error) from error


def _transient(url: str, error: Exception) -> TransientSourceError:
    return TransientSourceError(f"`{url}`: {type(error).__name__}: {error}", hint="check the network, then run again")


def _check_status(response: httpx.Response, url: str) -> None:
    code = response.status_code
    if response.is_success:
        return
    if code in (401, 403):
        raise SourceError(f"`{url}`: HTTP {code}", hint=f"a token may be needed: set {TOKEN_VARIABLE}")
    if code == 429 or code >= 500:
        time.sleep(min(60.0, float(response.headers.get("retry-after", "0")) if _is_number(response) else 0.0))
        raise TransientSourceError(f"`{url}`: HTTP {code}", hint="the server is busy; run again later")
    raise SourceError(f"`{url}`: HTTP {code}, expected 200", hint="check `source.revision`, `.folders` and `.base_url`")


def _is_number(response: httpx.Response) -> bool:
    return response.headers.get("retry-after", "").isdigit()

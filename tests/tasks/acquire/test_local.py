"""The `local` source takes regular files of its folder, and says which link or pipe it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data_contracts.errors import SourceError
from tasks.acquire.config import LocalSource
from tasks.acquire.local import find_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.jsonl").write_bytes(b'{"text": "a"}\n')
    (tmp_path / "in" / "sub" / "b.jsonl").write_bytes(b'{"text": "b"}\n')
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "c.jsonl").write_bytes(b'{"text": "c"}\n')
    return tmp_path / "in"


def names(path: Path | str, **config) -> list[str]:
    return [file.name for file in find_files(LocalSource(path=Path(path), **config))]


def test_a_link_to_a_file_outside_is_refused_with_its_target_unless_allowed(folder, tmp_path):
    (folder / "link.jsonl").symlink_to(tmp_path / "secret" / "c.jsonl")
    for path in (folder, folder / "*.jsonl", folder / "**" / "*.jsonl"):
        message = r"in/link\.jsonl`: a symbolic link to `.*secret/c\.jsonl`.*\nhint: .*allow_outside_symlinks"
        with pytest.raises(SourceError, match=message):
            names(path)
        assert "link.jsonl" in names(path, allow_outside_symlinks=True)


def test_a_link_to_a_folder_outside_is_refused_before_it_is_walked(folder, tmp_path):
    (folder / "more").symlink_to("../secret")
    (tmp_path / "secret" / "deep").mkdir(mode=0)
    for path in (folder, folder / "**" / "*.jsonl"):
        with pytest.raises(SourceError, match=r"in/more`: a symbolic link to `.*secret`"):
            names(path)
    (tmp_path / "secret" / "deep").chmod(0o700)
    assert names(folder, allow_outside_symlinks=True) == ["a.jsonl", "more/c.jsonl", "sub/b.jsonl"]


def test_a_chain_of_links_that_ends_outside_is_refused(folder, tmp_path):
    (folder / "last.jsonl").symlink_to(tmp_path / "secret" / "c.jsonl")
    (folder / "sub" / "first.jsonl").symlink_to("../last.jsonl")
    with pytest.raises(SourceError, match="secret/c"):
        names(folder / "sub" / ".." / "sub")


def test_links_inside_the_folder_and_a_folder_that_is_itself_a_link_are_read(folder, tmp_path):
    (folder / "again.jsonl").symlink_to("sub/b.jsonl")
    (tmp_path / "corpus").symlink_to(folder)
    assert names(tmp_path / "corpus") == ["a.jsonl", "again.jsonl", "sub/b.jsonl"]


def test_a_file_named_by_hand_may_be_a_link(folder, tmp_path):
    (folder / "link.jsonl").symlink_to(tmp_path / "secret" / "c.jsonl")
    assert names(folder / "link.jsonl") == ["link.jsonl"]


def test_a_link_that_leads_back_and_one_that_leads_nowhere_are_named(folder):
    (folder / "sub" / "loop").symlink_to("..")
    with pytest.raises(SourceError, match=r"sub/loop`: a symbolic link back to"):
        names(folder)
    (folder / "sub" / "loop").unlink()
    (folder / "gone.jsonl").symlink_to("nothing")
    with pytest.raises(SourceError, match=r"gone\.jsonl`: .*which is not there"):
        names(folder)


def test_pipes_and_devices_are_refused_not_waited_for(folder):
    os.mkfifo(folder / "pipe.jsonl")
    for path in (folder, folder / "*.jsonl", folder / "pipe.jsonl"):
        with pytest.raises(SourceError, match=r"pipe\.jsonl`: a pipe, socket or device"):
            names(path)
    (folder / "pipe.jsonl").unlink()
    (folder / "zero.jsonl").symlink_to("/dev/zero")
    with pytest.raises(SourceError, match=r"zero\.jsonl`: a pipe, socket or device"):
        names(folder, allow_outside_symlinks=True)


def test_other_links_and_files_are_no_concern(folder):
    (folder / "README").symlink_to("/etc/hostname")
    (folder / "locks").symlink_to("nothing")
    assert names(folder) == ["a.jsonl", "sub/b.jsonl"]

"""report.html as Chromium shows it: text of documents stays text."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCRIPT = "<script>alert(1)</script>"
WITNESS = "<script>document.documentElement.setAttribute('data-ran', 'yes')</script>"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")


def shown(page: Path, home: Path) -> str:
    """The page after Chromium has loaded it and run what it would run."""
    assert CHROMIUM is not None
    words = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={home}", "--dump-dom", page.as_uri())
    return subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=120, check=True).stdout


def test_a_script_in_a_document_is_shown_as_text_and_does_not_run(build_pipeline, tmp_path):
    report = build_pipeline().deliver().path / "report.html"
    page = shown(report, tmp_path / "home")
    assert not re.search(r"<script", page)
    assert html.escape(SCRIPT) in page


def test_this_browser_runs_a_script_that_is_not_escaped(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><p>続き</p>{WITNESS}", encoding="utf-8")
    assert 'data-ran="yes"' in shown(page, tmp_path / "home")

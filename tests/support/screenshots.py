"""PNGs of pages that scripts draw, by headless Chromium: `screenshots.py URL FILE.png [URL FILE.png]`."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOAD_SECONDS = 60.0
DRAW_SECONDS = 12.0
QUIET_SECONDS = 1.5
"""A page counts as drawn when its text has not changed for that long; a page that polls is never idle."""


class Browser:
    """A headless Chromium, spoken to over two pipes (DevTools protocol, one JSON object and a NUL each)."""

    def __init__(self, folder: Path, width: int, height: int) -> None:
        assert CHROMIUM is not None
        told, self._ask = os.pipe()
        self._hear, tell = os.pipe()
        words = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
        self._process = subprocess.Popen(
            # The protocol's descriptors are 3 and 4, whichever these pipes were given.
            ["/bin/bash", "-c", f'exec "$0" "$@" 3<&{told} 4>&{tell}', CHROMIUM, *words,
             f"--window-size={width},{height}", f"--user-data-dir={folder}", "about:blank"],
            pass_fds=(told, tell), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(told)
        os.close(tell)
        self._number, self._rest = 0, b""
        page = next(target for target in self("Target.getTargets")["targetInfos"] if target["type"] == "page")
        self._session = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        self("Page.enable")
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    _session: str | None = None

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to one call of the protocol; events in between are passed over."""
        self._number += 1
        call = {"id": self._number, "method": method, "params": parameters}
        call |= {"sessionId": self._session} if self._session else {}
        os.write(self._ask, json.dumps(call).encode() + b"\0")
        while (message := self._message()).get("id") != self._number:
            pass
        assert "error" not in message, message["error"]
        return message["result"]

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._hear, 1 << 20)
            assert chunk, "the browser ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        return self("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def open(self, url: str) -> None:
        """Loads a page and waits until what it shows stays the same."""
        self("Page.navigate", url=url)
        self.settle()

    def settle(self) -> None:
        deadline, seen, since = time.monotonic() + LOAD_SECONDS, "", time.monotonic()
        while time.monotonic() - since < QUIET_SECONDS or not seen.strip():
            assert time.monotonic() < deadline, f"nothing settled in {LOAD_SECONDS:.0f} s: {seen[:200]}"
            time.sleep(0.2)
            if (shown := str(self.run("document.body && document.body.innerText"))) != seen:
                seen, since = shown, time.monotonic()

    def picture(self) -> bytes:
        """PNG of what the window shows, once what draws itself late (the timeline of a run does) has come to rest."""
        deadline, seen = time.monotonic() + DRAW_SECONDS, ""
        while (found := self("Page.captureScreenshot", format="png")["data"]) != seen and time.monotonic() < deadline:
            seen = found
            time.sleep(QUIET_SECONDS)
        return base64.b64decode(found)

    def stop(self) -> None:
        self._session = None
        self("Browser.close")
        self._process.wait(timeout=30)
        os.close(self._ask)
        os.close(self._hear)


@contextmanager
def browser(width: int = 1440, height: int = 900) -> Iterator[Browser]:
    """A browser without a past."""
    with tempfile.TemporaryDirectory(prefix="tsuzuki-browser-", ignore_cleanup_errors=True) as folder:
        started = Browser(Path(folder), width, height)
        try:
            yield started
        finally:
            started.stop()


def main(words: list[str]) -> None:
    with browser() as window:
        for url, file in zip(words[::2], words[1::2], strict=True):
            window.open(url)
            Path(file).write_bytes(window.picture())


if __name__ == "__main__":
    main(sys.argv[1:])

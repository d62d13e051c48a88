"""A Chromium without a window: opens a page, and says what went wrong there and what is cut off. It needs
nothing but the browser.

The browser is asked through the pipe of its DevTools protocol: messages of JSON, each ended by a zero byte,
on its descriptors 3 and 4."""

from __future__ import annotations

import fcntl
import functools
import http.server
import json
import os
import select
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
PATH = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
MISSING = "there is no Chromium: install one (apt-get install chromium), or name it in CHROMIUM"
PATIENCE = 60
"""Seconds that an answer may take on a busy machine."""

CUT_OFF = """(async () => {
  await document.fonts.ready;
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const scrolls = (e) => { for (; e && e !== document.body; e = e.parentElement)
    if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(e).overflowX)) return true; return false; };
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect();
    if (box.width && box.height && (box.right > width + 1 || box.left < -1 && box.right > 0) && !scrolls(e.parentElement))
      found.push(`${e.tagName} ends at ${Math.round(box.right)}: ${e.textContent.slice(0, 40)}`);
  }
  for (const text of document.querySelectorAll('svg text')) {
    const inner = text.getBoundingClientRect(), outer = text.ownerSVGElement.getBoundingClientRect();
    if (inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1)
      found.push(`outside of its picture: ${text.textContent}`);
  }
  return found;
})()"""
"""What does not fit the width of the window and cannot be scrolled to, and text that leaves its picture."""


class Seen(NamedTuple):
    """What a page did: errors of scripts and of loading, addresses that it asked for, and what is cut off."""

    errors: list[str]
    requests: list[str]
    cut_off: list[str]


class Browser:
    """One tab of a browser that runs."""

    def __init__(self, pipe: tuple[int, int]) -> None:
        self._out, self._into = pipe
        self._rest, self._count, self._session, self._events = b"", 0, "", []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._ask(f"{domain}.enable")

    def open(self, address: str, width: int, height: int = 900) -> Seen:
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self._events.clear()
        self._ask("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()
        cut_off = self.run(CUT_OFF)
        requests = [
            event["params"]["request"]["url"]
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return Seen([said for event in self._events if (said := _error(event))], requests, cut_off)

    def run(self, script: str) -> Any:
        """The value of a script of the page, also of one that waits."""
        answer = self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def _ask(self, method: str, **params: Any) -> Any:
        self._count += 1
        message = {"id": self._count, "method": method, "params": params} | (
            {"sessionId": self._session} if self._session else {}
        )
        os.write(self._into, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            pass
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._out], [], [], PATIENCE)
            part = os.read(self._out, 1 << 20) if ready else b""
            assert part, "the browser says nothing any more"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
        return message


def _error(event: dict[str, Any]) -> str:
    """What an event says that went wrong; nothing of others."""
    method, params = event["method"], event["params"]
    if method == "Runtime.exceptionThrown":
        return f"exception: {params['exceptionDetails']}"
    if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
        return f"console: {params['args']}"
    if method == "Log.entryAdded" and params["entry"]["level"] == "error":
        return f"log: {params['entry']}"
    if method == "Network.loadingFailed" and not params.get("canceled"):
        return f"not loaded: {params['errorText']}"
    if method == "Network.responseReceived" and params["response"]["status"] >= 400:
        return f"status {params['response']['status']}: {params['response']['url']}"
    return ""


@contextmanager
def running(profile: Path) -> Iterator[Browser]:
    """A browser, which keeps what it must in the folder ``profile``."""
    assert PATH is not None
    options = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-extensions",
    ]
    command = [
        PATH,
        *options,
        "--disable-background-networking",
        f"--user-data-dir={profile}",
        "--remote-debugging-pipe",
    ]
    (read, to_browser), (from_browser, write) = os.pipe(), os.pipe()
    ends = [
        fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (read, write)
    ]  # off the numbers that they get in the browser
    there = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(ends, 3)]
    said = [
        (
            os.POSIX_SPAWN_OPEN,
            number,
            str(profile / "said.txt"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND,
            0o600,
        )
        for number in (1, 2)
    ]
    process = os.posix_spawn(PATH, command, os.environ, file_actions=[*said, *there])
    for end in (read, write, *ends):
        os.close(end)
    try:
        yield Browser((from_browser, to_browser))
    finally:
        os.close(to_browser)
        os.close(from_browser)
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, on this machine alone."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *said: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()

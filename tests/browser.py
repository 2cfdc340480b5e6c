"""A page in headless Chromium, told what to do as its developer tools tell it.

The Chrome DevTools Protocol, as JSON through two pipes (chromium --remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio")

KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "End": 35, "Tab": 9}
"""Codes of the keys that are pressed (Windows virtual key codes, as the protocol wants them)."""


def installed() -> str | None:
    """The path of Chromium or its like, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """The one page of a browser. complaints: what its console and its network told so far."""

    def __init__(self, commands: BinaryIO, answers: BinaryIO) -> None:
        self._commands, self._answers = commands, answers
        self._count = 0
        self._session: str | None = None
        self._happened: list[str] = []
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to `method`. Raises RuntimeError if that is an error."""
        self._count += 1
        number = self._count
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._read()).get("id") != number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser is gone")
            text += byte
        message: dict[str, Any] = json.loads(text)
        method, told = message.get("method", ""), message.get("params", {})
        self._happened.append(method)
        if method in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.complaints.append(json.dumps(told))
        if method == "Network.requestWillBeSent" and told["request"]["url"].startswith("http"):
            self.complaints.append(f"asks for {told['request']['url']}")
        return message

    def open(self, path: Path, *, width: int, height: int, mobile: bool = False) -> None:
        """Load the file at `path` in a window of that size in CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self._happened.clear()
        self.send("Page.navigate", url=path.absolute().as_uri())
        while "Page.loadEventFired" not in self._happened:
            self._read()
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited. Raises RuntimeError if it throws."""
        answer = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element after it is scrolled to the middle."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        left, top, width, height = self.run(
            f"(({{x, y, width, height}}) => [x, y, width, height])({found}.getBoundingClientRect())"
        )
        return left, top, width, height

    def mouse(self, kind: str, x: float, y: float, *, held: bool = False) -> None:
        """mouseMoved, mousePressed or mouseReleased; held: with the left button down."""
        button = {"button": "left", "buttons": 1 if held else 0, "clickCount": 1}
        moving = kind == "mouseMoved" and not held
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **({} if moving else button))

    def press(self, key: str) -> None:
        """Press and release a key of `KEYS`."""
        told = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, **told)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page, to `path`."""
        found = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def browsing(browser: str, folder: Path) -> Iterator[Page]:
    """A page of `browser`, which keeps its files in `folder`."""
    reads, commands = os.pipe()
    answers, writes = os.pipe()
    shell = ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash"]
    options = [*OPTIONS, "--remote-debugging-pipe", f"--user-data-dir={folder}"]
    with subprocess.Popen(
        [*shell, browser, *options, "about:blank"],
        pass_fds=(reads, writes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as running:
        os.close(reads)
        os.close(writes)
        with os.fdopen(commands, "wb") as sending, os.fdopen(answers, "rb") as told:
            yield Page(sending, told)
        # with its pipes closed it goes by itself
        running.wait(timeout=20)

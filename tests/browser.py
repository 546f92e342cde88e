"""Chromium behind its debugging protocol, over a pipe: for what a page looks like on a phone, in the dark and on paper.

A window cannot be narrower than 500 pixels and no option of the command line stands for paper; the protocol has both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)


class Browser:
    """One tab of a headless Chromium, for the time of a ``with`` block."""

    def __enter__(self) -> Browser:
        from_us, self._to_browser = os.pipe()
        self._from_browser, to_us = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        # The protocol is spoken on descriptors 3 and 4.
        command = ["bash", "-c", f'exec "$@" 3<&{from_us} 4>&{to_us}', "bash", str(CHROMIUM), *options]
        self._process = subprocess.Popen(command, pass_fds=(from_us, to_us), stderr=subprocess.DEVNULL)
        os.close(from_us)
        os.close(to_us)
        self._answers = os.fdopen(self._from_browser, "rb")
        self._n_calls, self._session = 0, {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.call("Page.enable")
        self.call("Emulation.setScrollbarsHidden", hidden=True)  # neither a phone nor paper gives room to them
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._to_browser)  # on which the browser ends
        self._answers.close()
        self._process.wait(timeout=60)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its answer."""
        self._n_calls += 1
        message = {"id": self._n_calls, "method": method, "params": parameters, **self._session}
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        answer = self._until("id", self._n_calls)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, path: Path, *, width: int, height: int = 800, media: str = "screen", scheme: str = "light") -> None:
        """Open a file on a screen of so many pixels, or on paper (``media="print"``) of that width."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Page.navigate", url=path.as_uri())
        self._until("method", "Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def _until(self, key: str, value: object) -> dict[str, Any]:
        """The next message with such an entry; others that come before are of no concern."""
        while True:
            message = json.loads(self._message())
            if message.get(key) == value:
                return message

    def _message(self) -> bytes:
        message = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser went away"
            message += byte
        return bytes(message)

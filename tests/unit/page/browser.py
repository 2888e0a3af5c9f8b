"""Drives a headless Chromium by its DevTools protocol over aiohttp, which is there anyway.

https://chromedevtools.github.io/devtools-protocol/ - a page, its console, clicks, sizes, pictures.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
ANSWER_WITHIN_S = 120.0
POLL_S = 0.1


def find_browser() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """One page of the browser. `console` holds what it logged, `dialogs` what it asked in a box."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._asked = socket, dict[int, asyncio.Future[dict[str, Any]]]()
        self._numbers = itertools.count(1)
        self.console: list[str] = []
        self.dialogs: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for raw in self._socket:
            said = json.loads(raw.data)
            if "id" in said:
                self._asked.pop(said["id"]).set_result(said)
            elif said["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.console.append(json.dumps(said["params"])[:500])
            elif said["method"] == "Runtime.consoleAPICalled" and said["params"]["type"] in ("error", "warning"):
                self.console.append(json.dumps(said["params"]["args"])[:500])
            elif said["method"] == "Page.javascriptDialogOpening":
                self.dialogs.append(said["params"]["message"])

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a method. Raises RuntimeError for an error of the browser."""
        number = next(self._numbers)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, ANSWER_WITHIN_S)
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']}")
        return dict(said["result"])

    async def open(self, address: str) -> None:
        await self.ask("Page.navigate", url=address)

    async def run(self, script: str) -> Any:
        """Return the value of an expression of JavaScript on the page."""
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until an expression is true; return its value. Bounded by the timeout of the test."""
        while True:
            with contextlib.suppress(RuntimeError):
                if found := await self.run(script):
                    return found
            await asyncio.sleep(POLL_S)

    async def text(self, selector: str) -> str:
        return str(await self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def look(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Give the page a size, and a light or dark screen."""
        await self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.ask("Emulation.setEmulatedMedia", features=features)

    async def picture(self) -> bytes:
        """Return a PNG of what the page shows."""
        return base64.b64decode((await self.ask("Page.captureScreenshot", format="png"))["data"])

    async def close(self) -> None:
        await self._socket.close()
        self._reading.cancel()


@contextlib.asynccontextmanager
async def open_tab() -> AsyncIterator[Tab]:
    """Start a browser with a profile of its own, and yield its tab. Raises FileNotFoundError without a browser."""
    browser = find_browser()
    if browser is None:
        raise FileNotFoundError(f"expected one of {', '.join(NAMES)} on the PATH, found none: install one")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        environment = {"PATH": os.environ["PATH"], "HOME": profile, "TZ": "UTC", "LANG": "C.UTF-8"}
        process = await asyncio.create_subprocess_exec(
            browser, *FLAGS, f"--user-data-dir={profile}",
            env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            async with aiohttp.ClientSession() as session:
                port = await _port(Path(profile), process)
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    target = next(one for one in await answer.json() if one["type"] == "page")
                socket = await session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
                tab = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await tab.ask(f"{domain}.enable")
                yield tab
                await tab.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _port(profile: Path, process: asyncio.subprocess.Process) -> int:
    """Return the port that the browser writes into its profile once it listens."""
    file = profile / "DevToolsActivePort"
    while not file.exists() or not file.read_text().count("\n"):
        if process.returncode is not None:
            raise RuntimeError(f"the browser ended with {process.returncode} before it listened")
        await asyncio.sleep(POLL_S)
    return int(file.read_text().split("\n", 1)[0])

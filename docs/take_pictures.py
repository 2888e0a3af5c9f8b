"""Take all pictures of status, report and live page; the first two from a real smoke run, in a temporary home.

python -m docs.take_pictures     needs Chromium; takes about three minutes
"""

from __future__ import annotations

import asyncio
import html
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from docs import take_page_pictures

PICTURES = Path(__file__).resolve().parent / "pictures"
BIN = Path(sys.executable).parent
CHARACTER_WIDTH, LINE_HEIGHT, MARGIN = 7.8, 19, 16


def as_svg(text: str) -> str:
    """Draw terminal text as an SVG, light on dark, in the viewer's monospace font."""
    lines = text.rstrip("\n").split("\n")
    width = max(map(len, lines)) * CHARACTER_WIDTH + 2 * MARGIN
    height = len(lines) * LINE_HEIGHT + 2 * MARGIN
    rows = "".join(
        f'<text x="{MARGIN}" y="{MARGIN + (row + 0.75) * LINE_HEIGHT:.0f}" xml:space="preserve">'
        f"{html.escape(line)}</text>\n"
        for row, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'font-family="ui-monospace, Menlo, DejaVu Sans Mono, monospace" font-size="13" fill="#e6e6e6">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#1b1f24"/>\n{rows}</svg>\n'
    )


def screenshot(page: Path, picture: Path, width: int, height: int) -> None:
    """Draw a page as a PNG by a headless Chromium that makes no request; raise FileNotFoundError without one."""
    browser = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if browser is None:
        raise FileNotFoundError("expected chromium or google-chrome on the PATH, found none: install one")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                f"--user-data-dir={profile}", f"--window-size={width},{height}", f"--screenshot={picture}",
                page.as_uri(),
            ],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"SWEEP_HOME": folder, "HOME": "/home/you"}

        def run(*command: str) -> str:
            return subprocess.run(
                [BIN / command[0], *command[1:]],
                env=environment,
                capture_output=True,
                text=True,
                timeout=200,
                check=True,
            ).stdout

        run("supervisord", "start", "smoke")
        for _ in range(120):
            shown = run("supervisorctl", "status")
            if "EXITED" in shown and "60k-h1" in shown and "best" in shown.split("60k-h1")[1]:
                break
            time.sleep(0.5)
        (PICTURES / "status.svg").write_text(as_svg("$ supervisorctl status\n" + shown.replace(folder, "~/sweep")))
        run("supervisorctl", "wait")
        report = next(Path(folder).glob("runs/*/report.html"))
        screenshot(report, PICTURES / "report.png", 1100, 700)
    asyncio.run(take_page_pictures.main())


if __name__ == "__main__":
    main()

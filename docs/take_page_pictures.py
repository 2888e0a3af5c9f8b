"""Take the pictures of the live page, desktop, phone and dark, from a run that is told into a store.

python -m docs.take_page_pictures     needs Chromium; takes half a minute
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from pathlib import Path

from PIL import Image

from supervisor.page.access import Access
from supervisor.page.figures import Figures
from supervisor.page.reader import StoreReader
from supervisor.page.server import PageServer, listen
from tests.unit.page.browser import Tab, open_tab
from tests.unit.page.stored_run import RUN, FakeLive, StoredRun

PICTURES = Path(__file__).resolve().parent / "pictures"
WITHIN_S = 120.0
READY = "document.querySelectorAll('#best .mark, #heat .line').length > 2"


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        stored = StoredRun(Path(folder) / "sweep.db").tell()
        reader = StoreReader(stored.store.path, RUN)
        figures = Figures(reader, RUN, FakeLive(stored))
        server = PageServer(Access("0" * 64, "sweep_docs"), figures, stored.clock, listen(0))
        await server.open()
        try:
            async with asyncio.timeout(WITHIN_S), open_tab() as tab:
                await take(tab, server.whole_address)
        finally:
            await server.close()
            reader.close()
            stored.close()


async def take(tab: Tab, address: str) -> None:
    """Open the page, and take it in each form."""
    await tab.look(1280, 1500)
    await tab.open(address)
    await tab.until(READY)
    for name, width, height, phone, dark in (
        ("page", 1280, 1760, False, False), ("page-dark", 1280, 1760, False, True),
        ("page-phone", 390, 2660, True, False),
    ):  # fmt: skip
        await tab.look(width, height, phone=phone, dark=dark)
        # The charts are drawn again for the new size, in the frame after it.
        await tab.run("new Promise((done) => setTimeout(done, 500))")
        small = Image.open(io.BytesIO(await tab.picture())).convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
        small.save(PICTURES / f"{name}.png", optimize=True)
    if tab.console:
        raise RuntimeError(f"the page complains: {tab.console}")


if __name__ == "__main__":
    asyncio.run(main())

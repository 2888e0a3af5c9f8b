"""The page in a real browser: its console is clean, its buttons work, a script in a name does nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.page.figures import Figures
from supervisor.page.reader import StoreReader
from supervisor.page.server import PageServer, listen
from tests.unit.page.browser import NAMES, Tab, find_browser, open_tab
from tests.unit.page.conftest import ACCESS, Serve
from tests.unit.page.stored_run import RUN, FakeLive, StoredRun

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_browser() is None,
        reason=f"needs one of {', '.join(NAMES)} on the PATH; on Debian `apt install chromium` installs it",
    ),
]

Scene = Callable[[PageServer, Tab], Awaitable[None]]
DRAWN = "document.querySelectorAll('#best .mark').length > 3 && document.querySelectorAll('#heat .line').length > 1"
ATTACK = '<img src=x onerror="window.hacked=1;alert(1)"><script>window.hacked=1;alert(2)</script>'


def play(serve: Serve, scene: Scene) -> None:
    async def whole() -> None:
        async with serve() as page, open_tab() as tab:
            await tab.look(1280, 1800)
            await tab.open(page.whole_address)
            await tab.until(DRAWN)
            await scene(page, tab)
            assert tab.console == []

    asyncio.run(whole())


def test_the_page_shows_the_run_and_keeps_the_token_out_of_the_address_bar(serve: Serve) -> None:
    async def scene(page: PageServer, tab: Tab) -> None:
        assert await tab.text("#plan") == "phase6a"
        assert await tab.run("document.querySelectorAll('#ladder > li').length") == 12
        assert "200M-h1 failed" in await tab.text("#needs")
        assert await tab.run("document.querySelectorAll('#curves .dot').length") == 3
        assert await tab.run("document.querySelectorAll('#heat .band').length") >= 1
        assert await tab.run("document.querySelectorAll('#events li').length") > 20
        assert await tab.run("location.href") == page.address
        assert await tab.run("document.cookie") == ""

    play(serve, scene)


def test_the_buttons_pause_and_resume_and_the_page_follows(serve: Serve, live: FakeLive) -> None:
    async def scene(_: PageServer, tab: Tab) -> None:
        await tab.run("window.row = document.querySelector('#ladder').children[11]; true")
        await tab.click("#pause-now")
        await tab.until("document.querySelector('#action').innerText.startsWith('❚❚ PAUSE by')")
        assert "next batch" in await tab.text("#said")
        assert await tab.run("document.querySelector('#state').className") == "chip PAUSED"
        await tab.click("#resume")
        await tab.until("document.querySelector('#action').innerText.includes('nothing holds it back')")
        assert await tab.text("#said") == "resumed"
        # A row that is made anew while it is pressed would lose its click.
        assert await tab.run("window.row === document.querySelector('#ladder').children[11]")
        await tab.click("#pause")
        await tab.until("document.querySelector('#said').innerText.includes('running trials finish')")
        assert [call[0] for call in live.calls] == ["pause", "resume", "pause"]
        assert [call[2] for call in live.calls if call[0] == "pause"] == [True, False]

    play(serve, scene)


def test_a_temperature_of_zero_is_a_temperature(serve: Serve, live: FakeLive, monkeypatch: pytest.MonkeyPatch) -> None:
    reading = live._reading
    monkeypatch.setattr(live, "_reading", lambda *given: {**reading(*given), "value": 0.0})

    async def scene(_: PageServer, tab: Tab) -> None:
        await tab.until(r"/\b0 °C/.test(document.querySelector('#facts').innerText)")

    play(serve, scene)


def test_another_experiment_parameter_and_time_can_be_chosen(serve: Serve) -> None:
    async def scene(_: PageServer, tab: Tab) -> None:
        await tab.click("#ladder [data-name='2M-h1']")
        await tab.until("document.querySelector('#shown').innerText === '2M-h1'")
        await tab.until("document.querySelector('#curves').getAttribute('aria-label').startsWith('No trial runs now')")
        assert (
            await tab.run("document.querySelector('#ladder [data-name=\"2M-h1\"]').getAttribute('aria-pressed')")
            == "true"
        )
        for selector, value, then in (
            ("#param", "optimizer", "document.querySelector('#scatter').ariaLabel.includes('optimizer')"),
            ("#hours", "3", "document.querySelectorAll('#heat .line').length > 1"),
            ("#level", "error", "document.querySelectorAll('#events .info').length === 0"),
        ):  # fmt: skip
            await tab.run(
                f"(() => {{ const box = document.querySelector('{selector}'); box.value = '{value}';"
                " box.dispatchEvent(new Event('change')); })()"
            )
            await tab.until(then)

    play(serve, scene)


def test_values_that_differ_in_their_last_digit_only_are_drawn(serve: Serve) -> None:
    """Steps between such values are too small to be added: ticks by them would never end."""

    async def scene(_: PageServer, tab: Tab) -> None:
        points = [{"place": place, "trial": place, "value": value, "end": "finished", "final": False}
                  for place, value in ((1, 1.0), (2, 1.0 + 2.0**-52))]  # fmt: skip
        data = json.dumps({"points": points, "best": [[1, 1.0, 1]], "mode": "min", "metric": "loss"})
        drawn = await tab.run(
            "import('/charts.js').then(({ drawBest }) => { const target = document.querySelector('#best');"
            f" drawBest(target, {data}); return target.querySelectorAll('.mark').length; }})"
        )
        assert drawn == 2

    play(serve, scene)


def test_a_browser_without_token_or_cookie_sees_only_what_to_do(serve: Serve) -> None:
    async def whole() -> None:
        async with serve() as page, open_tab() as tab:
            await tab.open(page.address)
            await tab.until("document.body.innerText.includes('supervisorctl status')")

    asyncio.run(whole())


def test_the_page_says_that_the_daemon_is_gone_and_finds_the_next_one(
    serve: Serve, figures: Figures, stored: StoredRun
) -> None:
    async def whole() -> None:
        async with open_tab() as tab:
            async with serve() as page:
                await tab.open(page.whole_address)
                await tab.until(DRAWN)
                port = page.port
            await tab.until("document.querySelector('#connection').innerText.includes('again')")
            again = PageServer(ACCESS, figures, stored.clock, listen(port))
            await again.open()
            try:
                await tab.until("document.querySelector('#connection').innerText.startsWith('live')")
                assert again.streams == 1
            finally:
                await again.close()

    asyncio.run(whole())


def test_a_stream_that_died_unseen_is_replaced_by_a_new_one(serve: Serve) -> None:
    """Cut the stream as a sleep of the machine does: the browser still takes it for open."""

    async def scene(_: PageServer, tab: Tab) -> None:
        await tab.run(
            "window.opened = 0; window.now = Date.now.bind(Date); window.late = 0; window.Before = EventSource;"
            "EventSource = class extends Before { constructor(path) { super(path); window.opened += 1; } };"
            "Date.now = () => now() + (late += 3600e3); true"
        )
        await tab.until("window.opened > 0")
        await tab.run("Date.now = window.now; true")
        await tab.until("document.querySelector('#connection').innerText.startsWith('live')")

    play(serve, scene)


def test_another_run_at_the_same_address_begins_the_page_anew(serve: Serve, live: FakeLive) -> None:
    async def scene(_: PageServer, tab: Tab) -> None:
        await tab.run("window.marked = true")
        live.shown_run = "phase6a-another"
        await tab.until("window.marked === undefined && document.querySelector('#run').innerText === 'phase6a-another'")

    play(serve, scene)


@pytest.mark.parametrize(("width", "phone", "dark"), [(390, True, False), (320, True, True), (1280, False, True)])
def test_nothing_is_wider_than_the_screen(serve: Serve, width: int, phone: bool, dark: bool) -> None:
    async def scene(_: PageServer, tab: Tab) -> None:
        await tab.look(width, 900, phone=phone, dark=dark)
        await tab.until(f"innerWidth === {width}")
        assert await tab.run("document.documentElement.scrollWidth") <= width
        light = await tab.run("getComputedStyle(document.body).backgroundColor")
        assert (light == "rgb(255, 255, 255)") != dark

    play(serve, scene)


class HostileLive(FakeLive):
    """Puts scripts into what only the daemon knows."""

    def completed(self, view: dict[str, Any]) -> dict[str, Any]:
        found = super().completed(view)
        found["shortage"] = ATTACK
        found["in_force"] = {**found["in_force"], "action": "HOLD", "reason": ATTACK, "who": ATTACK}
        found["lost"] = [{"cause": ATTACK, "seconds": 9.0, "experiment": None, "trial": None}]
        found["run"] = {**found["run"], "plan": ATTACK}
        for reading in found["nodes"]["node"]["readings"]:
            reading["sensor_id"] = ATTACK
        return found


def test_a_script_in_any_name_is_shown_as_text_and_does_nothing(tmp_path: Path) -> None:
    stored = HostileRun(tmp_path / "sweep.db", trials=8, names={"200M-h3": ATTACK, "200M-h1": f"{ATTACK}2"}).tell()
    stored.writer.record("drill.started", name=ATTACK, duration_s=1.0, node=ATTACK, drill=True)
    reader = StoreReader(stored.store.path, RUN)

    async def whole() -> None:
        server = PageServer(ACCESS, Figures(reader, RUN, HostileLive(stored)), stored.clock, listen(0))
        await server.open()
        try:
            async with open_tab() as tab:
                await tab.look(1280, 1800)
                await tab.open(server.whole_address)
                await tab.until(DRAWN)
                assert await tab.text("#plan") == ATTACK
                assert ATTACK in await tab.text("#ladder")
                assert ATTACK in await tab.text("#needs")
                assert "onerror" in str(await tab.run("document.querySelector('#param').innerHTML"))
                assert await tab.run("typeof window.hacked") == "undefined"
                assert await tab.run("document.querySelectorAll('img').length") == 0
                assert await tab.run("document.querySelectorAll('script').length") == 1
                assert tab.dialogs == []
                assert tab.console == []
        finally:
            await server.close()

    asyncio.run(whole())
    reader.close()
    stored.close()


class HostileRun(StoredRun):
    """Samples a parameter whose name and values are scripts."""

    def sampled(self) -> dict[str, Any]:
        return {ATTACK: self.random.choice([ATTACK, f"{ATTACK}{ATTACK}"]), **super().sampled()}


def test_the_policy_stops_a_script_that_gets_into_the_page_all_the_same(serve: Serve) -> None:
    """A second line of defence: as if a mistake had put text in as HTML."""

    async def whole() -> None:
        async with serve() as page, open_tab() as tab:
            await tab.open(page.whole_address)
            await tab.until("document.readyState === 'complete'")
            with pytest.raises(RuntimeError, match="TrustedHTML"):
                await tab.run("document.body.innerHTML = '<b>x</b>'")
            await tab.run(
                "(() => { const made = document.createElement('div'); made.setAttribute('style', 'color: red');"
                " document.body.append(made); return getComputedStyle(made).color; })()"
            )
            assert any("style-src" in entry for entry in tab.console)

    asyncio.run(whole())

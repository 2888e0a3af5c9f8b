"""Test faults of the services that deliver messages: down, or without an answer. The run goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from supervisor.daemon.news import dead_man, mailbox, notifier, pace
from supervisor.errors import RayStartFailed
from supervisor.home import Home
from tests.acceptance import lives
from tests.acceptance.faults.evidence import names, recorded
from tests.acceptance.faults.stories import finishes, live_to_the_end, status, story
from tests.acceptance.lives import (
    DRIVER,
    Setting,
    check_everything,
    life,
    living,
    until,
    until_recorded,
)
from tests.waits import NET_S

SLOWLY = "def at(number, attempt, step):\n    time.sleep(0.3)"


def looks_often() -> None:
    """Look for news all the time; a slow machine may take its time to send."""
    notifier.LOOK_PERIOD_S = 0.1
    notifier.LAST_MESSAGE_WITHIN_S = notifier.SEND_WITHIN_S = NET_S


def gives_up_soon() -> None:
    notifier.LOOK_PERIOD_S = 0.1
    notifier.LAST_MESSAGE_WITHIN_S = notifier.SEND_WITHIN_S = 1.0


def address(home: Home, text: str) -> None:
    home.prepare()
    home.notify.write_text(text)
    home.notify.chmod(0o600)


@pytest.fixture
def silent_service() -> Iterator[str]:
    """Accept a connection and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):  # the test may end before a connection
                taken.append(server.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield f"json://127.0.0.1:{server.getsockname()[1]}/"
        for each in taken:
            each.close()


@pytest.mark.fault(
    "50",
    "the service that carries messages is down for days",
    "recorded once; the run never waits for it; the next daemon still has the unsent messages",
)
def test_a_service_that_is_down_delays_nothing_and_its_messages_are_kept(home: Home) -> None:
    address(home, "json://127.0.0.1:9/\n")
    setting = Setting(driver=story(SLOWLY), change=looks_often)
    with living(home, setting) as it:
        until_recorded(home, "trial.started")
        finishes(home, it)
    failed = [event for event in recorded(home) if event["event"] == "notice.failed"]
    assert len(failed) == 1, "a service that is down must not fill the log"
    assert "json (address 1)" in failed[0]["error"]
    assert not [event for event in recorded(home) if event["event"] == "notice.sent"]
    check_everything(home)


@pytest.mark.fault(
    "50",
    "the service takes the message and never answers",
    "the sender is ended after its deadline, the run continues and ends as usual",
)
def test_a_service_that_never_answers_is_not_waited_for(home: Home, silent_service: str) -> None:
    address(home, f"{silent_service}\n")
    live_to_the_end(home, Setting(driver=DRIVER, change=gives_up_soon))
    failed = [event for event in recorded(home) if event["event"] == "notice.failed"]
    # On a slow machine the sender itself does not start within its time.
    expected = {"the service gave no answer within 1 s", "the sender took longer than 6 s"}
    assert {event["error"].removeprefix("json (address 1): ") for event in failed} <= expected
    assert failed
    check_everything(home)


class Service(ThreadingHTTPServer):
    """A service that takes messages while it is `up`, and answers 503 before."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Desk)
        self.up, self.taken, self.asked = threading.Event(), list[str](), 0
        self.signs: list[str] = []

    @property
    def address(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/"


class Desk(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.asked += 1
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.server.up.is_set():
            self.server.taken.append(body)
        self.send_response(200 if self.server.up.is_set() else 503)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.signs.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.up.set()
        made.shutdown()


def busy_notifier() -> None:
    """Look and try again at once."""
    looks_often()
    pace.AT_MOST_EVERY_S = pace.FIRST_WAIT_S = 0.1
    mailbox.retry_in_s = lambda failures: 0.2


LOSES_A_SENSOR = """
def at(number, attempt, step):
    awaited = {(0, 2): "service-asked", (0, 3): "service-up"}.get((number, step))
    while awaited and not (folder.parents[2] / awaited).exists():
        outbox.write(codec.encode(link.Heartbeat()))
        time.sleep(0.1)
    if (number, attempt, step) == (0, 1, 1):
        send(link.WatchdogUp("node", os.getpid(), True, {}))
        send(link.SensorNoted("node", "watchdog.lost", {"sensor": "fake:die/a"}))
"""


@pytest.mark.fault(
    "50",
    "the messages' service is down",
    "the loop never waits, one event records it; the missed messages are sent later",
)
def test_messages_that_a_service_missed_while_down_are_sent_later(
    home: Home, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise", reason="messages need the extra `notify`")
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    address(home, f"{service.address}\n")
    driver = story(LOSES_A_SENSOR)
    with living(home, Setting(driver=driver, change=busy_notifier)) as it:
        until_recorded(home, "notice.failed")
        until(home, "it was tried again", lambda: service.asked > 1)
        assert status(home) is not None, "it answers all the while"
        (home.root / "service-asked").touch()
        until_recorded(home, "trial.reported", times=2)
        it.kill()
    assert "notice.sent" not in names(recorded(home))
    assert names(recorded(home)).count("notice.failed") == 1, "once, however often it is tried"
    service.up.set()
    (home.root / "service-up").touch()
    live_to_the_end(home, Setting(driver=driver, change=busy_notifier))
    events = check_everything(home)
    assert "notice.sent" in names(events)
    assert any("the watchdog of node node does not answer" in body for body in service.taken), service.taken
    assert any("run finished" in body for body in service.taken)


def pings_often() -> None:
    dead_man.PERIOD_S = dead_man.RETRY_S = 0.1


@pytest.mark.fault(
    "50",
    "the dead-man ping's service is down",
    "recorded once, the run goes on and ends as usual",
)
def test_a_ping_that_no_service_takes_delays_nothing_and_is_recorded_once(home: Home) -> None:
    address(home, "ping = http://127.0.0.1:9/secret-check\n")
    with living(home, Setting(driver=story(SLOWLY), change=pings_often)) as it:
        until_recorded(home, "ping.failed")
        finishes(home, it)
    events = check_everything(home)
    assert names(events).count("ping.failed") == 1
    assert "secret-check" not in str(events)


def fails_at_once() -> None:
    async def no_ray(_: object) -> None:
        raise RayStartFailed("there is no Ray here")

    lives.FakeHead.start = no_ray  # type: ignore[method-assign]


def test_the_first_sign_says_that_a_daemon_began_and_the_last_that_it_ended(home: Home, service: Service) -> None:
    address(home, f"ping = http://127.0.0.1:{service.server_port}/check\n")
    with living(home, Setting(driver=story(SLOWLY), change=pings_often)) as it:
        until(home, "a sign was sent", lambda: service.signs)
        finishes(home, it)
    assert service.signs[0] == "/check/start"
    assert set(service.signs[1:]) == {"/check"}


def test_the_last_sign_of_a_run_that_failed_is_a_failure(home: Home, service: Service) -> None:
    address(home, f"ping = http://127.0.0.1:{service.server_port}/check\n")
    life(home, change=fails_at_once)
    assert service.signs[-1] == "/check/fail"

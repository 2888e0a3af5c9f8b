"""Test faults of the services that deliver messages: down, or without an answer. The run goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from supervisor.daemon.upkeep import notifier
from supervisor.home import Home
from tests.acceptance.faults.evidence import recorded
from tests.acceptance.faults.stories import finishes, live_to_the_end, story
from tests.acceptance.lives import DRIVER, Setting, check_everything, living, until_recorded
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
        thread = threading.Thread(target=lambda: taken.append(server.accept()[0]), daemon=True)
        thread.start()
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
    # On a slow machine the sender itself does not start within its second.
    assert {event["error"] for event in failed} <= {"no service answered within 1 s", "the sender took longer than 1 s"}
    assert failed
    check_everything(home)

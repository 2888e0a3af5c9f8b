"""Sends a message to Apprise addresses (https://github.com/caronc/apprise/wiki), all at the same time.

A child process sends (`python -P -m supervisor.processes.notification`): Apprise takes 0.2 s to load, services are
slow, and the daemon's loop must not wait. No text that leaves here quotes an address.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar

from supervisor.errors import WorkerFailed
from supervisor.processes.environment import passed_environment
from supervisor.processes.json_worker import JsonWorker, python_module

SEND_WITHIN_S = 30.0
START_WITHIN_S = 5.0
"""The sender's own start may take so long beside the services' time."""
NETWORK = (
    "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
"""The variables that lead through a company's network: its proxies, and the certificates that they sign with."""
Problem = str | None
"""The reason that an address was not reached; None if it was."""


async def send_message(addresses: Sequence[str], title: str, body: str, within_s: float) -> list[Problem]:
    """Send one message by a child process; return the problem of each address, in order.

    A service that has not answered after `within_s` seconds counts as not reached; the child is killed START_WITHIN_S
    later.
    """
    sender = JsonWorker(python_module(__name__), passed_environment(NETWORK), within_s + START_WITHIN_S)
    request = {"addresses": list(addresses), "title": title, "body": body, "within_s": within_s}
    try:
        problems = await sender.ask(request)
    except WorkerFailed as error:
        # Without its last words: a service's plug-in may have printed the address.
        return [f"the sender {error.problem}"] * len(addresses)
    if not isinstance(problems, list) or len(problems) != len(addresses):
        return ["the sender answered with something other than a list of problems"] * len(addresses)
    return [None if problem is None else str(problem) for problem in problems]


# --- in the child process ---


NOT_ACCEPTED = "the service did not accept the message"
_SENDING: ContextVar[int | None] = ContextVar("sending", default=None)
"""The position of the address that is sent to; Apprise hands it on to its own threads."""


class _LastWords(logging.Handler):
    """Keeps numbers and kinds of what Apprise logs, by address; never its words, which may quote the address."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: dict[int | None, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if (status := re.search(r"\berror=(\d{3})\b", text)) is not None:
            self.found[_SENDING.get()] = f"the service answered with status {status[1]}"
        elif re.search(r"connection error", text, re.IGNORECASE):
            self.found[_SENDING.get()] = "there is no connection to the service"


def deliver(addresses: Sequence[str], title: str, body: str, within_s: float) -> list[Problem]:
    """Send the message to all addresses at once; return the problem of each after `within_s` seconds at most."""
    words, pool = _LastWords(), ThreadPoolExecutor(max_workers=max(1, len(addresses)))
    logging.getLogger("apprise").addHandler(words)
    sending = [pool.submit(_deliver_to, number, address, title, body) for number, address in enumerate(addresses)]
    wait(sending, within_s)
    late = f"the service gave no answer within {within_s:g} s"
    answers = [one.result() if one.done() else late for one in sending]
    return [words.found.get(n, answer) if answer == NOT_ACCEPTED else answer for n, answer in enumerate(answers)]


def _deliver_to(number: int, address: str, title: str, body: str) -> Problem:
    _SENDING.set(number)
    try:
        import apprise
    except ImportError:
        return "the package apprise is not installed: `pip install apprise`"
    service = apprise.Apprise()
    if not service.add(address):
        return "Apprise does not know this kind of address"
    try:
        if "overflow=" not in address:
            for one in service:
                # Else a service with short messages refuses a long one, and each of its retries.
                one.overflow_mode = apprise.OverflowMode.SPLIT
        # The format is named, or a mail would be taken for HTML and lose its line breaks.
        taken = service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
        return None if taken else NOT_ACCEPTED
    except Exception as error:  # noqa: BLE001 - a plug-in's own error, whatever it is, concerns this address only
        return f"Apprise failed with {type(error).__name__}"


def main() -> None:
    """Read the message from standard input, send it, and write the problems to standard output."""
    logging.getLogger("apprise").propagate = False
    json.dump(deliver(**json.load(sys.stdin)), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # a thread that waits for a service would keep the process alive


if __name__ == "__main__":
    main()

"""Sends one message: `python -P -m supervisor.processes.notification`, a JSON object on its input, one on its output.

A process of its own: Apprise takes 0.2 s to load and services take their time, and the daemon's loop has none to give.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from supervisor.processes.notice_addresses import scheme

NO_APPRISE = "the package apprise is not installed here: `pip install apprise`"


def send(addresses: list[str], title: str, body: str) -> dict[str, str]:
    """Why each failed address failed, by its scheme and place in the file; empty: all were reached."""
    try:
        import apprise
    except ImportError:
        return {f"{scheme(address)} (address {number})": NO_APPRISE for number, address in enumerate(addresses, 1)}
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    failures: dict[str, str] = {}
    for number, address in enumerate(addresses, start=1):
        service = apprise.Apprise()
        if not service.add(address):
            failures[f"{scheme(address)} (address {number})"] = "Apprise does not know this kind of address"
        elif not service.notify(title=title, body=body):
            failures[f"{scheme(address)} (address {number})"] = "the service did not take it"
    return failures


def main() -> int:
    """Reads the request, sends, writes the failures."""
    request: dict[str, Any] = json.load(sys.stdin)
    failures = send(request["addresses"], request["title"], request["body"])
    json.dump(failures, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
